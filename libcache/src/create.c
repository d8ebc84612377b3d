/* create: making and ending a cache, and what can be asked of it. */
#include "cache_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clock.h"
#include "options.h"

const char *cache_strerror(int status)
{
    switch (status) {
    case CACHE_OK:
        return "success";
    case CACHE_MISS:
        return "not cached";
    case CACHE_NOT_FOUND:
        return "known not to exist";
    case CACHE_E_INVALID:
        return "invalid argument";
    case CACHE_E_MEMORY:
        return "out of memory";
    case CACHE_E_SIZE:
        return "too large, or the buffer is too small";
    case CACHE_E_REDIS:
        return "Redis is away or refused";
    case CACHE_E_LOADER:
        return "the loader failed";
    case CACHE_E_TIMEOUT:
        return "timed out";
    case CACHE_E_URL:
        return "the Redis URL cannot be understood";
    case CACHE_E_THREAD:
        return "a thread could not be started";
    case CACHE_E_TYPE:
        return "the key or one of its tag sets holds another Redis type";
    default:
        return "unknown status";
    }
}

const char *cache_version(void)
{
    return EVICTD_VERSION;
}

static uint64_t random_seed(void)
{
    uint64_t seed;
    return getrandom(&seed, sizeof seed, 0) == sizeof seed ? seed : clock_ms() * 0x9e3779b97f4a7c15u;
}

int cache_create(const cache_options *options, cache **ret_cache)
{
    struct redis_url url;
    char error[256];
    if (!ret_cache)
        return CACHE_E_INVALID;
    cache *c = calloc(1, sizeof *c);
    if (!c)
        return CACHE_E_MEMORY;
    int status = options_read(options, &c->options);
    if (status != CACHE_OK)
        goto fail;
    if (c->options.redis_url && redis_url_parse(c->options.redis_url, &url, error, sizeof error) < 0) {
        status = CACHE_E_URL;
        goto fail;
    }
    status = CACHE_E_INVALID;
    if (names_init(&c->names, c->options.namespace_name, c->options.tag_prefix, c->options.lease_prefix) < 0)
        goto fail;
    uint64_t seed = random_seed();
    status = CACHE_E_MEMORY;
    c->l1 = l1_create(c->options.l1_bytes, seed, c->options.tag_prefix, &c->stats);
    c->flights = flights_create(seed);
    if (!c->l1 || !c->flights)
        goto fail;
    if (c->options.redis_url) {
        c->l2 = l2_create(&url, &c->names, &c->options, &c->stats);
        if (!c->l2)
            goto fail;
        status = CACHE_E_THREAD;
        c->subscriber =
            subscriber_create(&url, &c->names, c->options.namespace_name, &c->options, c->l1, &c->stats);
        if (!c->subscriber)
            goto fail;
    }
    *ret_cache = c;
    return CACHE_OK;
fail:
    cache_destroy(&c);
    return status;
}

void cache_destroy(cache **c)
{
    if (!c || !*c)
        return;
    subscriber_destroy(&(*c)->subscriber);
    l2_destroy(&(*c)->l2);
    flights_destroy(&(*c)->flights);
    l1_destroy(&(*c)->l1);
    names_deinit(&(*c)->names);
    free(*c);
    *c = NULL;
}

bool cache_is_key(cache_slice key)
{
    return key.data && key.size > 0 && key.size <= CACHE_KEY_SIZE_MAX;
}

int cache_get_stats(cache *c, cache_stats *stats)
{
    cache_stats read = {.struct_size = sizeof read};
    if (!c || !stats || stats->struct_size < sizeof stats->struct_size)
        return CACHE_E_INVALID;
#define READ(name, meaning) read.name = atomic_load_explicit(&c->stats.name, memory_order_relaxed);
    CACHE_COUNTERS(READ)
#undef READ
    l1_usage(c->l1, &read.l1_entries, &read.l1_bytes);
    read.applied_seq = l1_applied(c->l1);
    read.trust = !c->subscriber                                     ? CACHE_TRUST_LOCAL
                 : subscriber_is_current(c->subscriber, clock_ms()) ? CACHE_TRUST_CURRENT
                                                                    : CACHE_TRUST_LOST;
    size_t known = stats->struct_size < sizeof read ? stats->struct_size : sizeof read;
    read.struct_size = stats->struct_size;
    memcpy(stats, &read, known);
    return CACHE_OK;
}

double cache_hit_rate(const cache_stats *stats)
{
    uint64_t hits = stats->l1_hits + stats->l2_hits, reads = hits + stats->misses;
    return reads ? (double)hits / (double)reads : 0;
}

int cache_wait_current(cache *c, uint32_t timeout_ms)
{
    if (!c)
        return CACHE_E_INVALID;
    return !c->subscriber || subscriber_wait(c->subscriber, timeout_ms) ? CACHE_OK : CACHE_E_TIMEOUT;
}
