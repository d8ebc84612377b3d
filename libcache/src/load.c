#include "load.h"

#include <stdlib.h>
#include <string.h>

void load_init(struct cache_load *load)
{
    memset(load, 0, sizeof *load);
}

void load_deinit(struct cache_load *load)
{
    free(load->value);
    for (size_t i = 0; i < load->tags_count; i++)
        free((void *)(uintptr_t)load->tags[i].data);
    load_init(load);
}

static int fail(struct cache_load *load, int status)
{
    if (load->status == CACHE_OK)
        load->status = status;
    return status;
}

int cache_load_value(cache_load *load, cache_slice value)
{
    if (value.size > CACHE_VALUE_SIZE_MAX || (!value.data && value.size))
        return fail(load, value.data ? CACHE_E_SIZE : CACHE_E_INVALID);
    void *copy = malloc(value.size + 1);
    if (!copy)
        return fail(load, CACHE_E_MEMORY);
    if (value.size)
        memcpy(copy, value.data, value.size);
    free(load->value);
    load->value = copy;
    load->value_size = value.size;
    load->has_value = true;
    return CACHE_OK;
}

int cache_load_not_found(cache_load *load)
{
    load->is_not_found = true;
    return CACHE_OK;
}

int cache_load_tag(cache_load *load, cache_slice tag)
{
    if (!tag.data || tag.size == 0 || tag.size > CACHE_TAG_SIZE_MAX)
        return fail(load, CACHE_E_INVALID);
    for (size_t i = 0; i < load->tags_count; i++) {
        if (load->tags[i].size == tag.size && memcmp(load->tags[i].data, tag.data, tag.size) == 0)
            return CACHE_OK;
    }
    if (load->tags_count == CACHE_TAGS_MAX)
        return fail(load, CACHE_E_INVALID);
    void *copy = malloc(tag.size);
    if (!copy)
        return fail(load, CACHE_E_MEMORY);
    memcpy(copy, tag.data, tag.size);
    load->tags[load->tags_count++] = cache_slice_of(copy, tag.size);
    return CACHE_OK;
}

void cache_load_ttl(cache_load *load, uint32_t ttl_ms)
{
    load->ttl_ms = ttl_ms ? ttl_ms : 1;
}

int load_run(struct cache_load *load, cache_load_fn loader, cache_slice key, void *arg)
{
    int status = loader(load, key, arg);
    if (load->status == CACHE_E_MEMORY)
        return CACHE_E_MEMORY;
    if (status != CACHE_OK || load->status != CACHE_OK || load->has_value == load->is_not_found)
        return CACHE_E_LOADER;
    return load->is_not_found ? CACHE_NOT_FOUND : CACHE_OK;
}
