/* pipeline: the way of an event: source -> event -> rules -> batch -> sink -> offsets. One thread runs it. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "config.h"

/* Counters since the start; written by the pipeline's thread, read by any (relaxed: each stands by itself).
 */
#define PIPELINE_COUNTERS(X)                                                                                 \
    X(events, "events read from Kafka")                                                                      \
    X(events_matched, "events that at least one rule matched")                                               \
    X(keys, "keys evicted by name")                                                                          \
    X(tags, "tags evicted")                                                                                  \
    X(members, "cached keys deleted through their tags")                                                     \
    X(batches, "batches applied by Redis")                                                                   \
    X(broadcasts, "number of the last broadcast")                                                            \
    X(dead_letters, "events that could not be handled: sent to the dead-letter topic, or skipped by policy") \
    X(gaps, "retention gaps found: the topic's scope was flushed")                                           \
    X(flushed_keys, "keys deleted by flushes")                                                               \
    X(rewinds, "partitions read again because Redis had lost state")                                         \
    X(redis_connects, "connections made to Redis")                                                           \
    X(redis_failures, "batches that Redis did not take at once")

struct pipeline_stats {
#define PIPELINE_FIELD(name, meaning) _Atomic uint64_t name;
    PIPELINE_COUNTERS(PIPELINE_FIELD)
#undef PIPELINE_FIELD
    _Atomic int64_t lag_events; /* not yet applied, over all assigned partitions; -1: not known */
};

/* Called on the pipeline's thread for each event that matched, when it has been applied by Redis. For the
 * demo. */
struct pipeline_observer {
    void (*explained)(
        void *arg,
        const char *text); /* "post-changed: blog.posts/3@17 -> keys post:17; tags author:4:posts" */
    void *arg;
};

struct pipeline;

/** Connects to nothing yet. @param config must outlive the pipeline @param observer NULL for none
 * @return 0, or -1 with a text in error (a librdkafka property that cannot be set) */
int pipeline_create(const struct config *config, const struct pipeline_observer *observer,
                    struct pipeline **ret_pipeline, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/** Runs until pipeline_stop, or until policy "stop" meets a bad event. On a stop it finishes the batch in
 * flight, commits, leaves the group. @return 0, or -1 after a fatal error (logged) */
int pipeline_run(struct pipeline *pipeline);

/** Asks pipeline_run to end within 5 s. Any thread; also from a signal handler. */
void pipeline_stop(struct pipeline *pipeline);

const struct pipeline_stats *pipeline_stats(const struct pipeline *pipeline);
void pipeline_destroy(struct pipeline **pipeline);
