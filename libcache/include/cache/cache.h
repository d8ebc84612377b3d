/** @file cache.h
 * libcache: a cache in three levels for services. L1 in the process (nanoseconds), L2 in Redis (~0.1 ms), L3
 * your loader (a database, 10-100 ms). Copies are kept right by tags, leases, fences and numbered evictions
 * over pub/sub.
 *
 * Threads: every function may be called from any thread at any time, but for cache_destroy, which must be the
 * last. Errors: functions return CACHE_OK (0), one of the positive answers (CACHE_MISS, CACHE_NOT_FOUND), or
 * a negative CACHE_E... code. Results come through ret_ parameters, untouched on failure unless a function
 * says otherwise. The library never logs, exits, installs signal handlers or forks. After a fork the child
 * must not use the parent's caches.
 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CACHE_VERSION_MAJOR 0
#define CACHE_VERSION_MINOR 1
#define CACHE_VERSION_PATCH 0

#if defined(__GNUC__)
#define CACHE_API   __attribute__((visibility("default")))
#define CACHE_CHECK __attribute__((warn_unused_result))
#else
#define CACHE_API
#define CACHE_CHECK
#endif

/** @name Bounds */
/**@{*/
#define CACHE_KEY_SIZE_MAX   65535u      /**< bytes of a key; the least is 1 */
#define CACHE_TAG_SIZE_MAX   1024u       /**< bytes of a tag; the least is 1 */
#define CACHE_TAGS_MAX       255u        /**< tags of one entry */
#define CACHE_VALUE_SIZE_MAX (64u << 20) /**< bytes of a value */
/**@}*/

/** What functions return. */
enum cache_status {
    CACHE_OK = 0,
    CACHE_MISS = 1,      /**< no level that was asked has the key */
    CACHE_NOT_FOUND = 2, /**< the loader said that the key does not exist, and that answer is cached */

    CACHE_E_INVALID = -1, /**< an argument is out of its documented range */
    CACHE_E_MEMORY = -2,  /**< an allocation failed */
    CACHE_E_SIZE = -3,    /**< the caller's buffer is too small; the size needed is told, nothing is copied */
    CACHE_E_REDIS = -4, /**< Redis is away or refused; for writes and evictions: nothing is promised, retry */
    CACHE_E_LOADER = -5,  /**< the loader (or the writer's store callback) failed */
    CACHE_E_TIMEOUT = -6, /**< waited for another one's load longer than the lease */
    CACHE_E_URL = -7,    /**< the Redis URL cannot be understood, or needs what the installed hiredis lacks */
    CACHE_E_THREAD = -8, /**< a thread could not be started */
    CACHE_E_TYPE = -9    /**< the key, or one of its tag sets, holds another Redis type */
};

/** A constant English text for a status. Any thread; never NULL. */
CACHE_API const char *cache_strerror(int status);

/** The version of the library that runs, such as "0.1.0". */
CACHE_API const char *cache_version(void);

/** Bytes somebody else owns: keys, values and tags are binary-safe. */
typedef struct cache_slice {
    const void *data;
    size_t size; /**< bytes */
} cache_slice;

/** The slice of a string literal, without its NUL. */
#define CACHE_LITERAL(text) cache_slice_of((text), sizeof(text "") - 1)

static inline cache_slice cache_slice_of(const void *data, size_t size)
{
    cache_slice slice;
    slice.data = data;
    slice.size = size;
    return slice;
}

/** One cache: an L1, connections to one Redis, threads that follow the evictions. Opaque. */
typedef struct cache cache;

/** What L1 does while it cannot know whether it is current (Redis away for longer than max_staleness_ms). */
enum cache_outage {
    CACHE_OUTAGE_LOAD = 0, /**< answer nothing from L1: every read loads (single flight still holds) */
    CACHE_OUTAGE_SERVE =
        1 /**< serve from L1, marked stale, until its entries' TTL; loads go into L1 as well */
};

/** Settings of a cache. Start with CACHE_OPTIONS_INIT, then change what you need: fields added by later
 * versions get their defaults. */
typedef struct cache_options {
    size_t struct_size; /**< set by CACHE_OPTIONS_INIT: tells the library which fields you know */
    const char
        *redis_url; /**< redis://[[user]:password@]host[:port][/db] or unix:///path[?db=N]; NULL: no L2 */
    const char *namespace_name; /**< must be the agents' ("main") */
    const char *tag_prefix;     /**< must be the agents' ("tag:") */
    const char *lease_prefix;   /**< must be the agents' ("lease:") */
    size_t l1_bytes;            /**< bound on the L1's memory: 64 MiB; at least 64 KiB; 0: no L1 */
    uint32_t l1_ttl_ms;         /**< time to live in L1: 30,000 */
    uint32_t l2_ttl_ms;         /**< time to live in L2: 300,000 */
    uint32_t l2_grace_ms;       /**< how long L2 keeps an expired value to serve it stale: 0 */
    uint32_t not_found_ttl_ms; /**< time to live of "does not exist": 5,000; 0: such answers are not cached */
    uint32_t
        max_staleness_ms; /**< L1 never serves an entry later than this after L2 dropped it: 1,000; >= 50 */
    uint32_t lease_ms;    /**< longest load that may still be stored, longest wait for another's: 5,000 */
    uint32_t redis_timeout_ms;  /**< longest wait for one answer of Redis: 500 */
    uint32_t redis_connections; /**< connections kept for reads and fills: 8 */
    double xfetch_beta; /**< early refresh: 1.0; 0: off. Vattani et al., "Optimal Probabilistic Cache Stampede
                             Prevention", VLDB 2015 */
    enum cache_outage outage; /**< CACHE_OUTAGE_LOAD */
} cache_options;

#define CACHE_OPTIONS_INIT                                                                                   \
    {                                                                                                        \
        sizeof(cache_options), NULL, "main", "tag:", "lease:", (size_t)64 << 20, 30000, 300000, 0, 5000,     \
            1000, 5000, 500, 8, 1.0, CACHE_OUTAGE_LOAD                                                       \
    }

/** Makes a cache and starts its thread. A Redis that is away is no error: the cache works without it and
 * connects when it comes.
 * @param options copied; NULL: all defaults, without Redis
 * @param ret_cache the new cache; free with cache_destroy
 * @return CACHE_OK, CACHE_E_INVALID, CACHE_E_URL, CACHE_E_MEMORY, CACHE_E_THREAD */
CACHE_API CACHE_CHECK int cache_create(const cache_options *options, cache **ret_cache);

/** Stops its thread, closes its connections, frees everything, sets *c to NULL. c or *c may be NULL. No other
 * call on this cache may run or follow. */
CACHE_API void cache_destroy(cache **c);

/** Where an answer came from. */
enum cache_level { CACHE_LEVEL_L1 = 1, CACHE_LEVEL_L2 = 2, CACHE_LEVEL_LOADER = 3 };

/** What is known about an answer. */
typedef struct cache_info {
    size_t size;            /**< bytes of the value */
    enum cache_level level; /**< who answered */
    uint64_t
        age_ms;   /**< since the value was loaded or set; 0 where that is not known (raw values of others) */
    int is_stale; /**< past its TTL, or served while L1 could not know whether it is current */
} cache_info;

/** A value of one's own: free with cache_value_free. */
typedef struct cache_value {
    const void *data; /**< info.size bytes; followed by a NUL that does not count */
    cache_info info;
} cache_value;

/** Frees what cache_get_value and cache_get_or_load returned; accepts NULL and sets *value to NULL. */
CACHE_API void cache_value_free(cache_value **value);

/** Reads L1, then L2 (which fills L1); loads nothing.
 * @param buffer the value is copied here; may be NULL when buffer_size is 0 (asks for the size)
 * @param ret_info may be NULL; filled on CACHE_OK and, its size only, on CACHE_E_SIZE
 * @return CACHE_OK, CACHE_MISS, CACHE_NOT_FOUND, CACHE_E_SIZE, CACHE_E_INVALID, CACHE_E_MEMORY, CACHE_E_TYPE;
 *         Redis away is a CACHE_MISS */
CACHE_API CACHE_CHECK int cache_get(cache *c, cache_slice key, void *buffer, size_t buffer_size,
                                    cache_info *ret_info);

/** Like cache_get, into memory of the value's own.
 * @return as cache_get, but for CACHE_E_SIZE */
CACHE_API CACHE_CHECK int cache_get_value(cache *c, cache_slice key, cache_value **ret_value);

/** What a loader fills in. Belongs to the library; valid during the callback only. */
typedef struct cache_load cache_load;

/** Loads one key from where the truth is. Called without any lock held, on the thread that asked.
 * Read the database with a snapshot begun inside the callback: what it read before may be older than an
 * eviction.
 * @return CACHE_OK after exactly one of cache_load_value or cache_load_not_found; anything else is a failure:
 * the callers get CACHE_E_LOADER, nothing is stored */
typedef int (*cache_load_fn)(cache_load *load, cache_slice key, void *arg);

/** The value, copied. @return CACHE_OK, CACHE_E_SIZE (over CACHE_VALUE_SIZE_MAX), CACHE_E_MEMORY */
CACHE_API int cache_load_value(cache_load *load, cache_slice value);
/** The key does not exist; remembered for not_found_ttl_ms. */
CACHE_API int cache_load_not_found(cache_load *load);
/** One more tag, copied. @return CACHE_OK, CACHE_E_INVALID (empty, too long, too many), CACHE_E_MEMORY: the
 * load then fails, for a value without its tag could not be evicted */
CACHE_API int cache_load_tag(cache_load *load, cache_slice tag);
/** Another time to live than the cache's, in both levels (L1 keeps the shorter of this and l1_ttl_ms); >= 1
 * ms. */
CACHE_API void cache_load_ttl(cache_load *load, uint32_t ttl_ms);

/** Reads L1, then L2, then calls the loader and stores its answer in both. Concurrent misses of a key cause
 * one load in this process, and one in all processes while its lease lives; the others wait for it. A load
 * that an eviction overtook is returned to the callers and stored nowhere.
 * @param load called at most once; may be called on this thread only
 * @param ret_value free with cache_value_free; untouched unless CACHE_OK
 * @return CACHE_OK, CACHE_NOT_FOUND, CACHE_E_LOADER, CACHE_E_INVALID, CACHE_E_MEMORY. Redis away is no error.
 */
CACHE_API CACHE_CHECK int cache_get_or_load(cache *c, cache_slice key, cache_load_fn load, void *arg,
                                            cache_value **ret_value);

/** Stores a value in both levels under its tags, and evicts the key from the L1s of the other processes.
 * Cache-aside writers who changed the database should rather evict, or use cache_write: a set knows nothing
 * of what changed since the value was read.
 * @param tags may be NULL when tags_count is 0
 * @param ttl_ms 0: the cache's
 * @return CACHE_OK, CACHE_E_INVALID, CACHE_E_SIZE, CACHE_E_MEMORY, CACHE_E_REDIS (nothing was stored, L1 has
 * dropped the key), CACHE_E_TYPE */
CACHE_API CACHE_CHECK int cache_set(cache *c, cache_slice key, cache_slice value, const cache_slice *tags,
                                    size_t tags_count, uint32_t ttl_ms);

/** Stores to the database. @return CACHE_OK; anything else is a failure: the key is evicted everywhere, as
 * nobody can know what the database holds now. */
typedef int (*cache_store_fn)(cache_slice key, cache_slice value, void *arg);

/** Write-through: takes the key's lease over anyone else's, calls store, then stores the value in both
 * levels, or, where another writer or an eviction came in between, removes the key. Other processes evict the
 * key either way. Two writers in any order leave the last value or nothing.
 * @return CACHE_OK (stored in the database; in the cache unless overtaken), CACHE_E_LOADER (store failed),
 *         CACHE_E_REDIS (before store: it was not called; after it: the database has the value, and the key's
 * old value may stand in L2 until its TTL or its event: retry or evict), CACHE_E_INVALID, CACHE_E_SIZE,
 * CACHE_E_MEMORY, CACHE_E_TYPE */
CACHE_API CACHE_CHECK int cache_write(cache *c, cache_slice key, cache_slice value, const cache_slice *tags,
                                      size_t tags_count, uint32_t ttl_ms, cache_store_fn store, void *arg);

/** Evicts one key everywhere: L2, this L1, and by broadcast every other.
 * @return CACHE_OK, CACHE_E_INVALID, CACHE_E_MEMORY, CACHE_E_REDIS (this L1 has evicted; the others have not)
 */
CACHE_API CACHE_CHECK int cache_evict_key(cache *c, cache_slice key);

/** Evicts all keys that were stored under the tag, everywhere. @return as cache_evict_key */
CACHE_API CACHE_CHECK int cache_evict_tag(cache *c, cache_slice tag);

/** How well L1 knows whether it is current. */
enum cache_trust {
    CACHE_TRUST_LOCAL = 0,   /**< no Redis configured: this process is the only one */
    CACHE_TRUST_CURRENT = 1, /**< follows the broadcasts; confirmed within max_staleness_ms */
    CACHE_TRUST_LOST = 2     /**< not confirmed: L1 answers nothing (or stale, with CACHE_OUTAGE_SERVE) */
};

/* Counters: X(name, meaning). They only rise. */
#define CACHE_COUNTERS(X)                                                                                    \
    X(l1_hits, "reads answered by L1")                                                                       \
    X(l2_hits, "reads answered by L2")                                                                       \
    X(misses, "reads that neither level could answer")                                                       \
    X(loads, "loader calls")                                                                                 \
    X(load_failures, "loader calls that failed")                                                             \
    X(load_ms, "milliseconds spent in loaders")                                                              \
    X(shared_loads, "reads that waited for a load of this process instead of loading")                       \
    X(lease_waits, "misses that waited for a load of another process")                                       \
    X(early_refreshes, "loads before expiry (XFetch)")                                                       \
    X(stale_served, "answers marked stale")                                                                  \
    X(fills_refused, "loads not stored because an eviction overtook them")                                   \
    X(l1_inserts, "entries stored in L1")                                                                    \
    X(l1_refused, "entries kept out of L1 because an eviction overtook them or L1 was not current")          \
    X(l1_evicted_size, "entries dropped from L1 for room")                                                   \
    X(l1_evicted_key, "entries dropped from L1 by a key's eviction")                                         \
    X(l1_evicted_tag, "entries dropped from L1 by a tag's eviction")                                         \
    X(l1_expired, "entries dropped from L1 past their TTL")                                                  \
    X(l1_clears, "times all of L1 was dropped: history was lost, or a flush")                                \
    X(broadcasts, "evictions received over pub/sub")                                                         \
    X(broadcasts_bad, "broadcasts that could not be understood; L1 was cleared")                             \
    X(gaps, "times a broadcast was found missing")                                                           \
    X(replayed, "evictions read again from the log")                                                         \
    X(reconnects, "subscriber connections made, but for the first")                                          \
    X(redis_errors, "failed calls to Redis")                                                                 \
    X(beat_silences, "times the agents' beat stood still for 5 s: no agent reaches this Redis")

/** Counters and gauges, each read by itself: sums need not fit to the last event. */
typedef struct cache_stats {
    size_t struct_size; /**< set by the caller: sizeof(cache_stats) */
#define CACHE_STATS_FIELD(name, meaning) uint64_t name;
    CACHE_COUNTERS(CACHE_STATS_FIELD)
#undef CACHE_STATS_FIELD
    uint64_t l1_entries;  /**< entries in L1 now */
    uint64_t l1_bytes;    /**< bytes of L1 in use now */
    uint64_t applied_seq; /**< number of the last eviction applied */
    enum cache_trust trust;
} cache_stats;

/** Reads the counters. stats->struct_size must be set. @return CACHE_OK, CACHE_E_INVALID */
CACHE_API int cache_get_stats(cache *c, cache_stats *stats);

/** Share of reads that needed no load, in [0, 1]: 0.95 is well tuned, below 0.80 is a warning. 0 before the
 * first read. */
CACHE_API double cache_hit_rate(const cache_stats *stats);

/** Waits until L1 is current, or for timeout_ms. For tests and for services that want to start warm.
 * @return CACHE_OK, CACHE_E_TIMEOUT */
CACHE_API int cache_wait_current(cache *c, uint32_t timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
