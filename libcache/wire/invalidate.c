#include "invalidate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* EVALSHA, sha, number of keys, 5 keys, 14 fixed arguments: see schemas/redis/invalidate.lua. */
#define FIXED_ARGUMENTS (3 + 5 + 14)

static void append_prefixed(struct resp *resp, const char *prefix, const struct invalidate_slice *name)
{
    char small[512];
    size_t prefix_size = strlen(prefix), size = prefix_size + name->size;
    char *text = size <= sizeof small ? small : malloc(size);
    if (!text) {
        resp->has_failed = true;
        return;
    }
    memcpy(text, prefix, prefix_size);
    memcpy(text + prefix_size, name->data, name->size);
    resp_bulk(resp, text, size);
    if (text != small)
        free(text);
}

static void append_key_and_lease(struct resp *resp, const struct names *names,
                                 const struct invalidate_slice *key)
{
    char small[512];
    size_t room = strlen(names->lease_prefix) + 2 * key->size + 4;
    char *lease = room <= sizeof small ? small : malloc(room);
    if (!lease) {
        resp->has_failed = true;
        return;
    }
    resp_bulk(resp, key->data, key->size);
    resp_bulk(resp, lease, names_lease(names, key->data, key->size, lease));
    if (lease != small)
        free(lease);
}

void invalidate_encode(struct resp *resp, const char *sha, const struct names *names,
                       const struct invalidate_call *call, size_t first_tag)
{
    if (first_tag > call->tags_count) { /* an answer that no script of ours gives */
        resp->has_failed = true;
        return;
    }
    size_t tags = call->tags_count - first_tag;
    size_t parts = call->broadcast ? broadcast_writer_count(call->broadcast) : 0;
    resp_array(resp, FIXED_ARGUMENTS + tags + 2 * call->keys_count + parts + 3 * call->partitions_count);
    resp_bulk(resp, "EVALSHA", 7);
    resp_text(resp, sha);
    resp_number(resp, 5);
    resp_text(resp, names->head);
    resp_text(resp, names->fence[0]);
    resp_text(resp, names->fence[1]);
    resp_text(resp, names->log);
    resp_text(resp, names->applied);
    resp_text(resp, call->new_epoch);
    resp_text(resp, call->expected_epoch);
    resp_text(resp, names->channel);
    resp_number(resp, INVALIDATE_MEMBERS_MAX);
    resp_number(resp, call->log_length);
    resp_number(resp, FENCES_MAX);
    resp_number(resp, FENCES_AGE_MS);
    resp_text(resp, call->broadcasts_members ? "members" : "");
    resp_text(resp, call->refuses_all_fills ? "all" : "");
    resp_number(resp, (int64_t)tags);
    resp_number(resp, (int64_t)call->keys_count);
    resp_number(resp, (int64_t)parts);
    resp_number(resp, (int64_t)call->partitions_count);
    resp_text(resp, names->ns_json);
    for (size_t i = first_tag; i < call->tags_count; i++)
        append_prefixed(resp, names->tag_prefix, &call->tags[i]);
    for (size_t i = 0; i < call->keys_count; i++)
        append_key_and_lease(resp, names, &call->keys[i]);
    for (size_t i = 0; i < parts; i++) {
        size_t size;
        const char *part = broadcast_writer_part(call->broadcast, i, &size);
        resp_bulk(resp, part, size);
    }
    for (size_t i = 0; i < call->partitions_count; i++) {
        resp_text(resp, call->partitions[i].field);
        resp_number(resp, call->partitions[i].from);
        resp_number(resp, call->partitions[i].next);
    }
}

static bool element_is(const redisReply *reply, size_t i, int type)
{
    return i < reply->elements && reply->element[i]->type == type;
}

static bool read_number(const redisReply *reply, size_t i, uint64_t *ret_number)
{
    if (!element_is(reply, i, REDIS_REPLY_INTEGER) || reply->element[i]->integer < 0)
        return false;
    *ret_number = (uint64_t)reply->element[i]->integer;
    return true;
}

static bool read_epoch(const redisReply *reply, size_t i, char out[EPOCH_SIZE])
{
    if (!element_is(reply, i, REDIS_REPLY_STRING) || reply->element[i]->len >= EPOCH_SIZE)
        return false;
    memcpy(out, reply->element[i]->str, reply->element[i]->len);
    out[reply->element[i]->len] = '\0';
    return true;
}

void invalidate_decode(const redisReply *reply, size_t first_tag, struct invalidate_result *ret_result)
{
    struct invalidate_result result = {.status = INVALIDATE_BAD};
    uint64_t index;
    *ret_result = result;
    if (reply->type != REDIS_REPLY_ARRAY || !element_is(reply, 0, REDIS_REPLY_STRING))
        return;
    const char *status = reply->element[0]->str;
    if (strcmp(status, "done") == 0) {
        if (read_number(reply, 1, &result.seq) && read_epoch(reply, 2, result.epoch) &&
            read_number(reply, 3, &result.members) && read_number(reply, 4, &result.keys) &&
            read_number(reply, 5, &result.foreign))
            result.status = INVALIDATE_DONE;
    } else if (strcmp(status, "more") == 0) {
        if (read_number(reply, 1, &index) && index > 0 && read_epoch(reply, 2, result.epoch) &&
            read_number(reply, 3, &result.members)) {
            result.next_tag = first_tag + (size_t)index - 1;
            result.status = INVALIDATE_MORE;
        }
    } else if (strcmp(status, "behind") == 0) {
        if (element_is(reply, 2, REDIS_REPLY_INTEGER) && read_epoch(reply, 3, result.epoch)) {
            result.applied = reply->element[2]->integer;
            result.status = INVALIDATE_BEHIND;
        }
    } else if (strcmp(status, "epoch") == 0 && read_epoch(reply, 1, result.epoch)) {
        result.status = INVALIDATE_EPOCH;
    }
    *ret_result = result;
}

void epoch_random(char ret_epoch[EPOCH_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[(EPOCH_SIZE - 1) / 2];
    size_t n = 0;
    while (n < sizeof bytes) {
        ssize_t got = getrandom(bytes + n, sizeof bytes - n, 0);
        if (got > 0)
            n += (size_t)got;
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        ret_epoch[2 * i] = digits[bytes[i] >> 4];
        ret_epoch[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret_epoch[EPOCH_SIZE - 1] = '\0';
}
