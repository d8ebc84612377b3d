/* subscriber: keeps L1 in step with the evictions. Owns two connections, one that subscribes and one that
 * reads the head and the log; its one thread drives both, applies every eviction in order, and says how long
 * L1 may be trusted. */
#pragma once

#include <cache/cache.h>
#include <stdbool.h>

#include "l1.h"
#include "names.h"
#include "redis_url.h"
#include "stats.h"

struct subscriber;

/** @return NULL: out of memory, or no thread to be had */
struct subscriber *subscriber_create(const struct redis_url *url, const struct names *names, const char *ns,
                                     const cache_options *options, struct l1 *l1, struct stats *stats);
void subscriber_destroy(struct subscriber **subscriber);

/** Is L1 known to be current enough at this moment? */
bool subscriber_is_current(const struct subscriber *subscriber, uint64_t now_ms);
/** Waits until it is. @return false: not within timeout_ms */
bool subscriber_wait(struct subscriber *subscriber, uint32_t timeout_ms);
/** Is this the server whose evictions we follow? What any other says must not enter L1. */
bool subscriber_follows(struct subscriber *subscriber, const char *run_id);
/** The same, and also the history: numbers of another epoch mean nothing here. */
bool subscriber_follows_epoch(struct subscriber *subscriber, const char *run_id, const char *epoch);
