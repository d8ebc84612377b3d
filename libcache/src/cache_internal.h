/* cache_internal: what a cache is made of, for the files that implement the public functions. */
#pragma once

#include <cache/cache.h>

#include "envelope.h"
#include "flight.h"
#include "l1.h"
#include "l2.h"
#include "names.h"
#include "stats.h"
#include "subscriber.h"

struct cache {
    cache_options options; /* checked; its texts are not used after creation */
    struct names names;
    struct stats stats;
    struct l1 *l1;
    struct flights *flights;
    struct l2 *l2;                 /* NULL: no Redis configured */
    struct subscriber *subscriber; /* NULL: the same */
};

bool cache_is_key(cache_slice key);

/** May what came over a connection to the server run_id enter L1? Only if that is the server whose evictions
 * we follow; with an epoch, only if that is the history we follow. @param run_id NULL: it did not come from
 * Redis at all */
bool cache_may_fill_l1(cache *c, const char *run_id, const char *epoch);

/** Encodes and stores through store.lua. @param is_write broadcasts the key
 * @return L2_OK: see *ret_stored */
enum l2_status cache_store_envelope(cache *c, cache_slice key, const struct envelope *envelope,
                                    const struct l2_lease *lease, bool is_write,
                                    struct l2_stored *ret_stored);
