/* sink: takes batches to Redis, in order, several in the pipe at once, and says when they are applied. Owns
 * the connection; its own thread runs it. Beats while it lives. It never drops a batch in silence: a batch
 * comes back applied, or abandoned because the session it belonged to ended.
 *
 * A session is one connection to one server. When it ends, whether Redis still has what it acknowledged is
 * not known: the pipeline aligns anew with what Redis says it applied (align.h) before it submits again. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "batch.h"
#include "config.h"
#include "connection.h"
#include "names.h"

#define SINK_BATCHES 4 /* one being filled, the others queued or in Redis */

/* Something else to be done over the sink's connection, on its thread, between batches; repeated from the
 * start on the next connection when this one fails. */
struct sink_task {
    /** @return 0: done; -1: the connection failed (its error is in connection->error) */
    int (*run)(struct sink_task *task, struct connection *connection, const struct names *names);
    bool is_done;     /* under the sink's mutex: read it by sink_task_is_done */
    uint64_t session; /* in which it was done */
};

struct sink;

/** @param wake called from the sink's thread, without locks, whenever there is something to look at
 * @return 0, or -1 with a text in error */
int sink_create(const struct config *config, const struct names *names, void (*wake)(void *arg), void *arg,
                struct sink **ret_sink, char *error, size_t error_size) __attribute__((warn_unused_result));
/** Ends the thread; batches not yet applied are given up. */
void sink_destroy(struct sink **sink);

/** Number of the session that is up; 0: none. */
uint64_t sink_session(struct sink *sink);
/** A batch to fill; NULL: all are in use. Belongs to the caller until submitted or released. */
struct batch *sink_take(struct sink *sink);
void sink_submit(struct sink *sink, struct batch *batch, uint64_t session);
/** The oldest submitted batch, when its outcome is known; NULL otherwise. The caller releases it. */
struct batch *sink_finished(struct sink *sink);
void sink_release(struct sink *sink, struct batch *batch);
/** Batches submitted and not yet finished. */
size_t sink_in_flight(struct sink *sink);
/** Waits until something is finished, or the session changes, or timeout_ms have passed. */
void sink_wait(struct sink *sink, int timeout_ms);

/** One task at a time. The task must live until it is done or cancelled. */
void sink_run(struct sink *sink, struct sink_task *task);
bool sink_task_is_done(struct sink *sink, struct sink_task *task, uint64_t *ret_session);
/** Takes the task back; waits while it runs. */
void sink_cancel(struct sink *sink);

/** What the sink counts. */
uint64_t sink_connects(struct sink *sink);
uint64_t sink_failures(struct sink *sink);
