#include "options.h"

#include <string.h>

#define L1_BYTES_MIN     65536u
#define STALENESS_MIN_MS 50
#define CONNECTIONS_MAX  1024
#define TTL_MAX_MS       (365u * 86400u * 1000u / 10u) /* 36 days: fits, and is no cache any more */
#define STRUCT_SIZE_MIN  (offsetof(cache_options, redis_url) + sizeof(const char *))

static int is_between(uint64_t value, uint64_t low, uint64_t high)
{
    return value >= low && value <= high;
}

int options_read(const cache_options *options, cache_options *ret_options)
{
    cache_options read = CACHE_OPTIONS_INIT;
    if (options) {
        if (options->struct_size < STRUCT_SIZE_MIN)
            return CACHE_E_INVALID;
        memcpy(&read, options, options->struct_size < sizeof read ? options->struct_size : sizeof read);
    }
    if (!read.namespace_name || !read.tag_prefix || !read.lease_prefix ||
        (read.l1_bytes && read.l1_bytes < L1_BYTES_MIN) || !is_between(read.l1_ttl_ms, 1, TTL_MAX_MS) ||
        !is_between(read.l2_ttl_ms, 1, TTL_MAX_MS) || read.l2_grace_ms > TTL_MAX_MS ||
        read.not_found_ttl_ms > TTL_MAX_MS ||
        !is_between(read.max_staleness_ms, STALENESS_MIN_MS, TTL_MAX_MS) ||
        !is_between(read.lease_ms, 1, 3600000) || !is_between(read.redis_timeout_ms, 1, 3600000) ||
        !is_between(read.redis_connections, 1, CONNECTIONS_MAX) ||
        !(read.xfetch_beta >= 0 && read.xfetch_beta <= 100) ||
        (read.outage != CACHE_OUTAGE_LOAD && read.outage != CACHE_OUTAGE_SERVE))
        return CACHE_E_INVALID;
    *ret_options = read;
    return CACHE_OK;
}
