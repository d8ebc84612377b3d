/* stats: the counters of one cache. Any thread; each stands by itself, so all of it is relaxed. */
#pragma once

#include <cache/cache.h>
#include <stdatomic.h>

struct stats {
#define STATS_FIELD(name, meaning) _Atomic uint64_t name;
    CACHE_COUNTERS(STATS_FIELD)
#undef STATS_FIELD
};

#define STATS_ADD(stats, name, n)                                                                            \
    atomic_fetch_add_explicit(&(stats)->name, (uint64_t)(n), memory_order_relaxed)
#define STATS_INC(stats, name) STATS_ADD(stats, name, 1)
