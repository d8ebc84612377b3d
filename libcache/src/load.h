/* load: what a loader has filled in so far. One thread. */
#pragma once

#include <cache/cache.h>
#include <stdbool.h>

struct cache_load {
    void *value; /* malloc'd */
    size_t value_size;
    bool has_value, is_not_found;
    cache_slice tags[CACHE_TAGS_MAX]; /* each malloc'd */
    size_t tags_count;
    uint32_t ttl_ms; /* 0: the cache's */
    int status;      /* the first error */
};

void load_init(struct cache_load *load);
void load_deinit(struct cache_load *load);
/** Runs the loader. @return CACHE_OK, CACHE_NOT_FOUND, or an error */
int load_run(struct cache_load *load, cache_load_fn loader, cache_slice key, void *arg);
