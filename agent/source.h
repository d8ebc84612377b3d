/* source: the Kafka consumer: assigned partitions, where each stands, records, offsets. The pipeline's thread
 * only, but for source_wake. Auto commit commits what source_store has stored, nothing else.
 *
 * librdkafka assigns nothing by itself here: after a rebalance the partitions are known but not read
 * (source_is_reading is false) until the pipeline has found out where each must start and calls source_read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "event.h"

#define OFFSET_UNKNOWN (-1)

struct source_partition {
    char *topic;
    int32_t id;
    char *field; /* <group>/<topic>/<partition>, the name under `applied` */
    const struct rules_for_topic *rules;
    int64_t next;     /* offset of the next event to hand out; OFFSET_UNKNOWN until aligned */
    int64_t stored;   /* what Redis has acknowledged in this assignment; OFFSET_UNKNOWN: nothing yet */
    bool has_gap;     /* the events to read next are gone: flush its scope */
    bool is_recorded; /* Redis has an applied offset for it */
};

enum source_poll {
    SOURCE_NOTHING,
    SOURCE_EVENT,
    SOURCE_FATAL /* librdkafka gave up (logged) */
};

struct source;

/** Makes the consumer and subscribes. @return 0, or -1 with a text in error */
int source_open(const struct config *config, struct source **ret_source, char *error, size_t error_size)
    __attribute__((warn_unused_result));
/** Leaves the group, after a last commit of what is stored; waits at most timeout_ms. */
void source_close(struct source **source, int timeout_ms);

/** Serves librdkafka for at most timeout_ms and hands out one record, valid until the next call.
 * `revoking` is called when partitions are about to be taken away, so that what is in flight can be finished.
 */
enum source_poll source_poll(struct source *source, int timeout_ms, struct event_source *ret_event,
                             struct source_partition **ret_partition);
void source_on_revoke(struct source *source, void (*revoking)(void *arg), void *arg);
/** Makes a source_poll that waits return. Any thread. */
void source_wake(struct source *source);

/** Changes with every assignment and revocation. */
uint64_t source_assignment(const struct source *source);
struct source_partition *source_partitions(struct source *source, size_t *ret_count);
bool source_is_reading(const struct source *source);
/** True when a partition needs a flush since the last source_read. */
bool source_has_gap(const struct source *source);

/** Asks Kafka for committed offsets. @param offsets one per partition; OFFSET_UNKNOWN where the group has
 * none
 * @return 0, or -1: no answer within timeout_ms */
int source_committed(struct source *source, int64_t *offsets, int timeout_ms)
    __attribute__((warn_unused_result));
/** The first and the next offset a partition has. @return 0 or -1 */
int source_bounds(struct source *source, const struct source_partition *partition, int64_t *ret_first,
                  int64_t *ret_end, int timeout_ms) __attribute__((warn_unused_result));

/** Reads every partition from its `next` on. @return 0 or -1 (logged; try again) */
int source_read(struct source *source) __attribute__((warn_unused_result));
/** Reads none of them, keeps them assigned in the group. */
void source_rest(struct source *source);

/** Keeps a backlog flowing; called now and then, cheap where there is none. */
void source_hurry(struct source *source);

/** Stores an offset for the next commit: Redis has acknowledged all before it. */
void source_store(struct source *source, struct source_partition *partition, int64_t next);

/** Events not yet applied over all partitions, by the watermarks last seen; -1: not known. */
int64_t source_lag(struct source *source);
