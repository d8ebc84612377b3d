/* options: checks what the user set. Pure. */
#pragma once

#include <cache/cache.h>

/** Copies what the user knows of the struct over the defaults, and checks it. @return CACHE_OK or
 * CACHE_E_INVALID */
int options_read(const cache_options *options, cache_options *ret_options);
