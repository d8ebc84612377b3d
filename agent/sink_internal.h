/* sink_internal: the sink's own, for the files it is made of: sink.c (what the pipeline calls, creation and
 * end), sink_thread.c (its thread: connection, waiting, beat), sink_calls.c (batches through the pipe). */
#pragma once

#include <pthread.h>
#include <time.h>

#include "sink.h"

#define BACKOFF_MIN_MS 50

struct sink {
    /* set at creation */
    const struct config *config;
    const struct names *names;
    struct redis_url url;
    void (*wake)(void *arg);
    void *wake_arg;
    pthread_t thread;
    char new_epoch[EPOCH_SIZE];

    /* sink's thread only */
    struct connection connection;
    struct resp out;
    struct batch *sent[SINK_BATCHES]; /* in the pipe, oldest first */
    size_t sent_count;
    int backoff_ms;
    int64_t next_beat_ms, next_evicted_check_ms, evicted_keys;
    char epoch[EPOCH_SIZE]; /* of this session; "" until an answer told it */

    /* under mu */
    pthread_mutex_t mu;
    pthread_cond_t to_sink, to_pipeline;
    bool is_stopping, is_task_running, has_changed;
    int fd; /* of the connection, to interrupt a wait for it; -1: none */
    uint64_t session, sessions;
    struct batch *free_list;
    struct batch *queue, **queue_end;       /* submitted, not yet sent */
    struct batch *finished, **finished_end; /* outcome known */
    size_t in_flight;
    struct sink_task *task;
    uint64_t connects, failures;
};

/* sink.c: monotonic time */
int64_t sink_now_ms(void);
struct timespec sink_after_ms(int64_t ms);

/* sink_thread.c; all run on the sink's thread */
void *sink_main(void *arg);
void sink_tell_pipeline(struct sink *sink);                                           /* locked */
void sink_finish(struct sink *sink, struct batch *batch, enum batch_outcome outcome); /* locked */
void sink_back_off(struct sink *sink);
void sink_end_session(struct sink *sink, const char *why); /* why may lie within the connection */
bool sink_is_stopping(struct sink *sink);

/* sink_calls.c; all run on the sink's thread */
bool sink_may_repeat(struct sink *sink, const redisReply *reply);
void sink_learn_epoch(struct sink *sink, const char *epoch);
int sink_send_queued(struct sink *sink);
void sink_read_oldest(struct sink *sink);
