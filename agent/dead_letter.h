/* dead_letter: events that cannot be handled go to a topic of their own, unchanged, with headers that say why
 * (schemas/dead-letter.schema.json). The pipeline's thread only. A letter counts as written when every
 * in-sync replica has it; until then the offset of its event is not stored. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "batch.h"
#include "config.h"
#include "event.h"

#define LETTERS_MAX 1000 /* on their way at once */

struct dead_letter;

int dead_letter_open(const struct config *config, struct dead_letter **ret_letters, char *error,
                     size_t error_size) __attribute__((warn_unused_result));
/** Waits for what is on its way, at most timeout_ms. */
void dead_letter_close(struct dead_letter **letters, int timeout_ms);

/** Sends one. count->pending is raised, and lowered by dead_letter_serve when the broker has it. Failures are
 * tried again for ever: nothing is skipped. Waits while LETTERS_MAX are on their way.
 * @return 0, or -1: it can never be sent (too large for the producer; logged) */
int dead_letter_send(struct dead_letter *letters, struct letters *count, const struct event_source *event,
                     const struct event_error *error) __attribute__((warn_unused_result));
/** Serves delivery reports. */
void dead_letter_serve(struct dead_letter *letters, int timeout_ms);
