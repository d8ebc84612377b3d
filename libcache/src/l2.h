/* l2: the cache in Redis: a few blocking connections, each used by one thread at a time, and the calls of the
 * protocol. Any thread. After a failure it fails fast for a while (back-off with jitter), and comes back by
 * itself. */
#pragma once

#include <cache/cache.h>
#include <stdbool.h>

#include "connection.h"
#include "invalidate.h"
#include "names.h"
#include "stats.h"

struct l2;

/** @param names, stats must outlive it @return NULL: out of memory */
struct l2 *l2_create(const struct redis_url *url, const struct names *names, const cache_options *options,
                     struct stats *stats);
void l2_destroy(struct l2 **l2);

enum l2_status { L2_OK, L2_MISS, L2_AWAY, L2_WRONG_TYPE, L2_NO_MEMORY };

/* A value as it stands in Redis. */
struct l2_value {
    redisReply *reply; /* owns data */
    const void *data;
    size_t size;
    int64_t left_ms; /* until Redis drops it; -1: never */
    char run_id[RUN_ID_SIZE];
};

enum l2_status l2_get(struct l2 *l2, cache_slice key, struct l2_value *ret_value);
void l2_value_release(struct l2_value *value);

/* The right to fill a key. */
struct l2_lease {
    char token[33];
    uint64_t seq; /* head's number when it was granted */
    char epoch[EPOCH_SIZE];
    char run_id[RUN_ID_SIZE];
    uint64_t taken_ms; /* clock_ms before it was asked for */
};

enum l2_ask {
    L2_ASK /* no value and no lease there */,
    L2_REFRESH /* no lease there */,
    L2_TAKE /* over anyone's */
};
enum l2_leased { L2_GRANTED, L2_HELD, L2_HAS_VALUE };

enum l2_status l2_lease(struct l2 *l2, cache_slice key, enum l2_ask ask, enum l2_leased *ret_leased,
                        struct l2_lease *ret_lease);

/* What store.lua did. */
struct l2_stored {
    bool is_stored;
    bool has_wrong_type; /* the key, or a tag's name, holds another Redis type */
    uint64_t seq;
    char epoch[EPOCH_SIZE];
    char run_id[RUN_ID_SIZE];
};

/** Ends a fill (tells nobody) or a write (broadcasts the key). @param lease NULL: a set that asks nobody
 * @param left_ms time to live in Redis, grace included */
enum l2_status l2_store(struct l2 *l2, cache_slice key, cache_slice bytes, const cache_slice *tags,
                        size_t tags_count, uint64_t left_ms, const struct l2_lease *lease, bool is_write,
                        struct l2_stored *ret_stored);

/** Evicts keys and tags for all. @return L2_OK with the number of the broadcast */
enum l2_status l2_invalidate(struct l2 *l2, const cache_slice *key, const cache_slice *tag,
                             uint64_t *ret_seq);
