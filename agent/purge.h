/* purge: `evictd purge`: does by hand what an event would. */
#pragma once

#include "config.h"
#include "invalidate.h"

/** Evicts the keys and tags through the same script as events do, and prints what was deleted.
 * @return exit code: 0, or 1 with a text on stderr */
int purge_run(const struct config *config, const struct invalidate_slice *keys, size_t keys_count,
              const struct invalidate_slice *tags, size_t tags_count);
