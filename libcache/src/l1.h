/* l1: the cache in the process: a bounded hash table with LRU order and an exact index of tags. Any thread;
 * one mutex guards all of it, never held over I/O or a user's callback.
 *
 * It also remembers what was evicted lately, by a fixed table of the highest number per hash slot, so that a
 * value which was read before an eviction is refused after it, in the same critical section that inserts. Two
 * names that share a slot can only cause a needless refusal. */
#pragma once

#include <cache/cache.h>
#include <stdbool.h>

#include "stats.h"

/* When a value was read: it may be stored unless something that evicts it has a higher number, or all was
 * dropped. */
struct l1_token {
    uint64_t as_of;      /* number of the last eviction that is surely in the value */
    uint64_t generation; /* of the L1's content: a new one with every clear */
};

struct l1_meta {
    uint64_t loaded_ms;  /* clock_ms when the value was loaded, as far as known */
    uint64_t expires_ms; /* clock_ms when L1 lets it go */
    uint64_t fresh_ms;   /* clock_ms of the value's own, logical expiry, at or after expires_ms */
    uint32_t cost_ms;    /* of the load */
    bool is_not_found;
};

enum l1_insert { L1_STORED, L1_REFUSED, L1_TOO_LARGE, L1_NO_MEMORY };

struct l1;

/** @param bytes bound on entries, index and table; 0: stores nothing, remembers evictions all the same
 * @param tag_prefix for patterns, which are over Redis names @return NULL: out of memory */
struct l1 *l1_create(size_t bytes, uint64_t seed, const char *tag_prefix, struct stats *stats);
void l1_destroy(struct l1 **l1);

/** Gives memory for a value of that size, or NULL: then nothing is copied. */
typedef void *(*l1_room_fn)(void *arg, size_t size);

/** Copies a value that has not expired. @return true: found; *ret_size and *ret_meta are set, copied or not
 */
bool l1_get(struct l1 *l1, cache_slice key, uint64_t now_ms, l1_room_fn room, void *arg, size_t *ret_size,
            struct l1_meta *ret_meta);

struct l1_token l1_token(struct l1 *l1);
enum l1_insert l1_insert(struct l1 *l1, cache_slice key, cache_slice value, const cache_slice *tags,
                         size_t tags_count, const struct l1_meta *meta, struct l1_token token,
                         uint64_t now_ms);
/** Would a value of this token be refused by now? */
bool l1_is_overtaken(struct l1 *l1, cache_slice key, const cache_slice *tags, size_t tags_count,
                     struct l1_token token);

/** Evicts what is older than eviction number `seq`, and remembers it. */
void l1_evict_key(struct l1 *l1, cache_slice key, uint64_t seq);
void l1_evict_tag(struct l1 *l1, cache_slice tag, uint64_t seq);
void l1_evict_glob(struct l1 *l1, cache_slice glob, uint64_t seq);
/** Drops what is there, however new, and refuses what was read before: for evictions of one's own. */
void l1_forget_key(struct l1 *l1, cache_slice key);
void l1_forget_tag(struct l1 *l1, cache_slice tag);
/** All up to `seq` is applied: what is read from now on is at least of that number. */
void l1_set_applied(struct l1 *l1, uint64_t seq);
uint64_t l1_applied(struct l1 *l1);
/** Drops everything and refuses every value read before. @param seq the number to go on from */
void l1_clear(struct l1 *l1, uint64_t seq);
/** Counts up by one and returns it: the numbers of evictions where no Redis gives them. */
uint64_t l1_next_seq(struct l1 *l1);

void l1_usage(struct l1 *l1, uint64_t *ret_entries, uint64_t *ret_bytes);
