/* value: what callers get: one block, counted references, so that all who waited for a load share it. */
#pragma once

#include <cache/cache.h>

/** @return a value with one reference and room for `size` bytes (uninitialised, NUL behind them), or NULL */
cache_value *value_create(size_t size);
/** One more reference. */
cache_value *value_share(cache_value *value);
/** Where the bytes are written before anybody else sees the value. */
void *value_bytes(cache_value *value);
