/* envelope: what libcache writes into Redis around a value (schemas/envelope.md). Pure; decoding checks
 * everything. */
#pragma once

#include <cache/cache.h>
#include <stdbool.h>

#define ENVELOPE_HEAD_SIZE 28

struct envelope {
    bool is_not_found;
    uint32_t ttl_ms; /* logical; the physical one is longer by grace_ms */
    uint32_t grace_ms;
    uint32_t cost_ms;   /* of the load */
    uint64_t stored_ms; /* wall clock of the writer, for people to look at: nothing is decided by it */
    cache_slice payload;
    const cache_slice *tags; /* encoding: to write; decoding: use envelope_tags */
    uint32_t tags_count;
};

enum envelope_kind { ENVELOPE_GOOD, ENVELOPE_RAW, ENVELOPE_BAD };

size_t envelope_size(const struct envelope *envelope);
/** @param out room for envelope_size bytes */
void envelope_encode(const struct envelope *envelope, void *out);

/** @param ret_envelope its payload points into data
 * @return ENVELOPE_GOOD; ENVELOPE_RAW: another writer's bytes; ENVELOPE_BAD: ours, but damaged or of a newer
 * version */
enum envelope_kind envelope_decode(const void *data, size_t size, struct envelope *ret_envelope);
/** The tags of a decoded envelope. @param tags room for tags_count; they point into data */
void envelope_tags(const void *data, const struct envelope *envelope, cache_slice *tags);
