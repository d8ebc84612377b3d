/* demo_agent: evictd itself in the demo: the very pipeline of `evictd run`, on a thread of its own, with a
 * built-in configuration. Called by the demo's main thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "pipeline.h"

struct agent;

/** Starts it. @param observer's function is called on the pipeline's thread, until agent_stop returns
 * @return 0, or -1 with a text in error */
int agent_start(const char *brokers, const char *redis_url, const struct pipeline_observer *observer,
                struct agent **ret_agent, char *error, size_t error_size) __attribute__((warn_unused_result));
/** Lets it finish what it has read; its counters stay. NULL is fine. */
void agent_stop(struct agent *agent);
/** Stops and frees it. */
void agent_destroy(struct agent **agent);

const struct pipeline_stats *agent_stats(const struct agent *agent);
/** Did the pipeline end by itself? It has logged why. */
bool agent_has_failed(const struct agent *agent);
