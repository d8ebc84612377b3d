#include "envelope.h"

#include <string.h>

/* 0 magic (2)  2 version  3 flags  4 ttl_ms (4)  8 grace_ms (4)  12 cost_ms (4)  16 stored_ms (8)  24 tags
 * (2)  26 zero (2) then each tag as size (2) and bytes, then the payload to the end. Integers are big-endian.
 */
static const unsigned char magic[2] = {0xe7, 0xca};
#define VERSION        1
#define FLAG_NOT_FOUND 1u

static void put(unsigned char *out, uint64_t number, int bytes)
{
    for (int i = bytes; i-- > 0; number >>= 8)
        out[i] = (unsigned char)number;
}

static uint64_t take(const unsigned char *in, int bytes)
{
    uint64_t number = 0;
    for (int i = 0; i < bytes; i++)
        number = number << 8 | in[i];
    return number;
}

size_t envelope_size(const struct envelope *envelope)
{
    size_t size = ENVELOPE_HEAD_SIZE + envelope->payload.size;
    for (uint32_t i = 0; i < envelope->tags_count; i++)
        size += 2 + envelope->tags[i].size;
    return size;
}

void envelope_encode(const struct envelope *envelope, void *out)
{
    unsigned char *end = out;
    memcpy(end, magic, 2);
    end[2] = VERSION;
    end[3] = envelope->is_not_found ? FLAG_NOT_FOUND : 0;
    put(end + 4, envelope->ttl_ms, 4);
    put(end + 8, envelope->grace_ms, 4);
    put(end + 12, envelope->cost_ms, 4);
    put(end + 16, envelope->stored_ms, 8);
    put(end + 24, envelope->tags_count, 2);
    put(end + 26, 0, 2);
    end += ENVELOPE_HEAD_SIZE;
    for (uint32_t i = 0; i < envelope->tags_count; i++) {
        put(end, envelope->tags[i].size, 2);
        memcpy(end + 2, envelope->tags[i].data, envelope->tags[i].size);
        end += 2 + envelope->tags[i].size;
    }
    if (envelope->payload.size)
        memcpy(end, envelope->payload.data, envelope->payload.size);
}

enum envelope_kind envelope_decode(const void *data, size_t size, struct envelope *ret_envelope)
{
    const unsigned char *in = data, *end = in + size;
    struct envelope envelope = {.tags = NULL};
    if (size < 2 || memcmp(in, magic, 2) != 0)
        return ENVELOPE_RAW;
    if (size < ENVELOPE_HEAD_SIZE || in[2] != VERSION || (in[3] & ~FLAG_NOT_FOUND) || take(in + 26, 2) != 0)
        return ENVELOPE_BAD;
    envelope.is_not_found = in[3] & FLAG_NOT_FOUND;
    envelope.ttl_ms = (uint32_t)take(in + 4, 4);
    envelope.grace_ms = (uint32_t)take(in + 8, 4);
    envelope.cost_ms = (uint32_t)take(in + 12, 4);
    envelope.stored_ms = take(in + 16, 8);
    envelope.tags_count = (uint32_t)take(in + 24, 2);
    if (envelope.ttl_ms == 0 || envelope.tags_count > CACHE_TAGS_MAX)
        return ENVELOPE_BAD;
    in += ENVELOPE_HEAD_SIZE;
    for (uint32_t i = 0; i < envelope.tags_count; i++) {
        if (end - in < 2)
            return ENVELOPE_BAD;
        size_t tag_size = take(in, 2);
        if (tag_size == 0 || tag_size > CACHE_TAG_SIZE_MAX || (size_t)(end - in) - 2 < tag_size)
            return ENVELOPE_BAD;
        in += 2 + tag_size;
    }
    envelope.payload = cache_slice_of(in, (size_t)(end - in));
    if (envelope.is_not_found && envelope.payload.size)
        return ENVELOPE_BAD;
    *ret_envelope = envelope;
    return ENVELOPE_GOOD;
}

void envelope_tags(const void *data, const struct envelope *envelope, cache_slice *tags)
{
    const unsigned char *in = (const unsigned char *)data + ENVELOPE_HEAD_SIZE;
    for (uint32_t i = 0; i < envelope->tags_count; i++) {
        size_t size = take(in, 2);
        tags[i] = cache_slice_of(in + 2, size);
        in += 2 + size;
    }
}
