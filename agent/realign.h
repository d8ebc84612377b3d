/* realign: brings Kafka's and Redis's idea of what is done together, whenever either may have changed: after
 * an assignment, at the start of a Redis session, after a retention gap, after a stall. A small state machine
 * that the pipeline's thread steps; it never blocks for longer than a second.
 *
 *   1. wait until no batch is in flight           4. flush the scopes that must be flushed, set applied
 *   2. ask Kafka: committed offsets               5. read from the offsets decided on
 *   3. ask Redis: applied offsets; decide (align.h) */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "pipeline.h"
#include "sink.h"
#include "source.h"

struct realign;

struct realign *realign_create(const struct config *config, const struct names *names, struct source *source,
                               struct sink *sink, struct pipeline_stats *stats);
void realign_destroy(struct realign **realign);

/** True from the moment something changed until it is aligned again. */
bool realign_is_needed(struct realign *realign);
bool realign_is_done(struct realign *realign);
/** Asks for another round. */
void realign_request(struct realign *realign);
/** One step. @return true when it was the last one and reading has begun */
bool realign_step(struct realign *realign);
/** The session batches belong to. */
uint64_t realign_session(const struct realign *realign);
