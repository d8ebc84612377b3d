#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

#include "sink_internal.h"

int64_t sink_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct timespec sink_after_ms(int64_t ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

/* --- the pipeline's side --- */

uint64_t sink_session(struct sink *sink)
{
    pthread_mutex_lock(&sink->mu);
    uint64_t session = sink->session;
    pthread_mutex_unlock(&sink->mu);
    return session;
}

struct batch *sink_take(struct sink *sink)
{
    pthread_mutex_lock(&sink->mu);
    struct batch *batch = sink->free_list;
    if (batch)
        sink->free_list = batch->next_in_queue;
    pthread_mutex_unlock(&sink->mu);
    if (batch)
        batch_clear(batch);
    return batch;
}

void sink_submit(struct sink *sink, struct batch *batch, uint64_t session)
{
    batch->session = session;
    batch->next_in_queue = NULL;
    pthread_mutex_lock(&sink->mu);
    *sink->queue_end = batch;
    sink->queue_end = &batch->next_in_queue;
    sink->in_flight++;
    pthread_cond_signal(&sink->to_sink);
    pthread_mutex_unlock(&sink->mu);
}

struct batch *sink_finished(struct sink *sink)
{
    pthread_mutex_lock(&sink->mu);
    struct batch *batch = sink->finished;
    if (batch) {
        sink->finished = batch->next_in_queue;
        if (!sink->finished)
            sink->finished_end = &sink->finished;
        sink->in_flight--;
    }
    pthread_mutex_unlock(&sink->mu);
    return batch;
}

void sink_release(struct sink *sink, struct batch *batch)
{
    pthread_mutex_lock(&sink->mu);
    batch->next_in_queue = sink->free_list;
    sink->free_list = batch;
    pthread_mutex_unlock(&sink->mu);
}

size_t sink_in_flight(struct sink *sink)
{
    pthread_mutex_lock(&sink->mu);
    size_t in_flight = sink->in_flight;
    pthread_mutex_unlock(&sink->mu);
    return in_flight;
}

void sink_wait(struct sink *sink, int timeout_ms)
{
    struct timespec deadline = sink_after_ms(timeout_ms);
    pthread_mutex_lock(&sink->mu);
    while (!sink->finished && !sink->has_changed &&
           pthread_cond_timedwait(&sink->to_pipeline, &sink->mu, &deadline) == 0)
        ;
    sink->has_changed = false;
    pthread_mutex_unlock(&sink->mu);
}

void sink_run(struct sink *sink, struct sink_task *task)
{
    pthread_mutex_lock(&sink->mu);
    task->is_done = false;
    sink->task = task;
    pthread_cond_signal(&sink->to_sink);
    pthread_mutex_unlock(&sink->mu);
}

bool sink_task_is_done(struct sink *sink, struct sink_task *task, uint64_t *ret_session)
{
    pthread_mutex_lock(&sink->mu);
    bool is_done = task->is_done;
    *ret_session = task->session;
    pthread_mutex_unlock(&sink->mu);
    return is_done;
}

void sink_cancel(struct sink *sink)
{
    pthread_mutex_lock(&sink->mu);
    while (sink->is_task_running)
        pthread_cond_wait(&sink->to_pipeline, &sink->mu);
    sink->task = NULL;
    pthread_mutex_unlock(&sink->mu);
}

uint64_t sink_connects(struct sink *sink)
{
    pthread_mutex_lock(&sink->mu);
    uint64_t connects = sink->connects;
    pthread_mutex_unlock(&sink->mu);
    return connects;
}

uint64_t sink_failures(struct sink *sink)
{
    pthread_mutex_lock(&sink->mu);
    uint64_t failures = sink->failures;
    pthread_mutex_unlock(&sink->mu);
    return failures;
}

/* --- life --- */

int sink_create(const struct config *config, const struct names *names, void (*wake)(void *arg), void *arg,
                struct sink **ret_sink, char *error, size_t error_size)
{
    struct sink *sink = calloc(1, sizeof *sink);
    pthread_condattr_t monotonic;
    uint64_t seed = 0;
    if (!sink)
        goto no_memory;
    sink->config = config;
    sink->names = names;
    sink->wake = wake;
    sink->wake_arg = arg;
    sink->backoff_ms = BACKOFF_MIN_MS;
    sink->fd = -1;
    sink->queue_end = &sink->queue;
    sink->finished_end = &sink->finished;
    pthread_mutex_init(&sink->mu, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&sink->to_sink, &monotonic);
    pthread_cond_init(&sink->to_pipeline, &monotonic);
    pthread_condattr_destroy(&monotonic);
    epoch_random(sink->new_epoch);
    if (redis_url_parse(config->redis.url, &sink->url, error, error_size) < 0)
        goto fail;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        seed = (uint64_t)sink_now_ms();
    for (int i = 0; i < SINK_BATCHES; i++) {
        struct batch *batch = batch_create(seed);
        if (!batch)
            goto no_memory;
        sink_release(sink, batch);
    }
    if (pthread_create(&sink->thread, NULL, sink_main, sink) != 0) {
        snprintf(error, error_size, "cannot start a thread");
        goto fail;
    }
    *ret_sink = sink;
    return 0;
no_memory:
    snprintf(error, error_size, "out of memory");
fail:
    if (sink) {
        sink->is_stopping = true;
        for (struct batch *batch = sink->free_list; batch;) {
            struct batch *next = batch->next_in_queue;
            batch_destroy(&batch);
            batch = next;
        }
        free(sink);
    }
    return -1;
}

static void destroy_list(struct batch *batch)
{
    while (batch) {
        struct batch *next = batch->next_in_queue;
        batch_destroy(&batch);
        batch = next;
    }
}

void sink_destroy(struct sink **sink)
{
    if (!sink || !*sink)
        return;
    struct sink *s = *sink;
    pthread_mutex_lock(&s->mu);
    s->is_stopping = true;
    if (s->fd >= 0)
        shutdown(s->fd, SHUT_RDWR);
    pthread_cond_broadcast(&s->to_sink);
    pthread_mutex_unlock(&s->mu);
    pthread_join(s->thread, NULL);
    destroy_list(s->queue);
    destroy_list(s->finished);
    destroy_list(s->free_list);
    for (size_t i = 0; i < s->sent_count; i++)
        batch_destroy(&s->sent[i]);
    resp_deinit(&s->out);
    pthread_cond_destroy(&s->to_sink);
    pthread_cond_destroy(&s->to_pipeline);
    pthread_mutex_destroy(&s->mu);
    free(s);
    *sink = NULL;
}
