/* The sink's thread: makes sessions, waits for work, beats, runs tasks. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "log.h"
#include "sink_internal.h"

#define CONNECT_MS       2000 /* for each step of connecting */
#define TIMEOUT_S        5    /* for one answer: well above the slowest script, below Kafka's session */
#define BEAT_MS          250
#define BEAT_SWEEP       "20" /* tag sets looked at a beat */
#define BACKOFF_MAX_MS   2000
#define EVICTED_CHECK_MS 10000

void sink_tell_pipeline(struct sink *sink)
{
    pthread_cond_broadcast(&sink->to_pipeline);
    pthread_mutex_unlock(&sink->mu);
    sink->wake(sink->wake_arg);
    pthread_mutex_lock(&sink->mu);
}

/* Locked. */
void sink_finish(struct sink *sink, struct batch *batch, enum batch_outcome outcome)
{
    batch->outcome = outcome;
    batch->next_in_queue = NULL;
    *sink->finished_end = batch;
    sink->finished_end = &batch->next_in_queue;
}

/* Sleeps with jitter, between half of and all of the back-off, which doubles; ends early on a stop. */
void sink_back_off(struct sink *sink)
{
    unsigned random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random = 0;
    int half = sink->backoff_ms / 2;
    struct timespec deadline = sink_after_ms(half + (int)(random % (unsigned)(half + 1)));
    sink->backoff_ms = sink->backoff_ms * 2 < BACKOFF_MAX_MS ? sink->backoff_ms * 2 : BACKOFF_MAX_MS;
    pthread_mutex_lock(&sink->mu);
    while (!sink->is_stopping && pthread_cond_timedwait(&sink->to_sink, &sink->mu, &deadline) != ETIMEDOUT)
        ;
    pthread_mutex_unlock(&sink->mu);
}

void sink_end_session(struct sink *sink, const char *why) /* why may lie within the connection */
{
    char server[400];
    redis_url_print(&sink->url, server, sizeof server);
    log_limited(LOG_WARNING, "redis connection ended", log_text("server", server), log_text("error", why));
    pthread_mutex_lock(&sink->mu);
    connection_close(&sink->connection);
    sink->fd = -1;
    sink->session = 0;
    sink->has_changed = true;
    sink->failures++;
    for (size_t i = 0; i < sink->sent_count; i++)
        sink_finish(sink, sink->sent[i], BATCH_ABANDONED);
    sink->sent_count = 0;
    sink_tell_pipeline(sink);
    pthread_mutex_unlock(&sink->mu);
}

/* What the server's settings mean for the guarantees; said once a session. */
static void judge_server(struct sink *sink)
{
    const struct connection *connection = &sink->connection;
    if (connection->has_maxmemory && strncmp(connection->policy, "allkeys-", 8) == 0)
        log_line(LOG_WARNING,
                 "redis may evict tag sets and fences under memory pressure: invalidations would miss keys",
                 log_text("maxmemory_policy", connection->policy),
                 log_text("remedy", "use a volatile-* policy"));
    sink->evicted_keys = connection->evicted_keys;
}

static int begin_session(struct sink *sink)
{
    char server[400];
    redis_url_print(&sink->url, server, sizeof server);
    if (connection_open(&sink->connection, &sink->url, CONNECT_MS,
                        1u << SCRIPT_INVALIDATE | 1u << SCRIPT_BEAT) < 0 ||
        sink->connection.is_replica) {
        log_limited(LOG_WARNING, "redis is away", log_text("server", server),
                    log_text("error", sink->connection.is_replica ? "the server is a read-only replica"
                                                                  : sink->connection.error));
        connection_close(&sink->connection);
        return -1;
    }
    log_line(LOG_INFO, "redis connected", log_text("server", server),
             log_text("version", sink->connection.version), log_text("run_id", sink->connection.run_id));
    redisSetTimeout(sink->connection.context, (struct timeval){.tv_sec = TIMEOUT_S});
    judge_server(sink);
    sink->epoch[0] = '\0';
    sink->next_beat_ms = 0;
    sink->backoff_ms = BACKOFF_MIN_MS;
    pthread_mutex_lock(&sink->mu);
    sink->session = ++sink->sessions;
    sink->fd = sink->connection.context->fd;
    sink->connects++;
    sink->has_changed = true;
    sink_tell_pipeline(sink);
    pthread_mutex_unlock(&sink->mu);
    return 0;
}

bool sink_is_stopping(struct sink *sink)
{
    pthread_mutex_lock(&sink->mu);
    bool stopping = sink->is_stopping;
    pthread_mutex_unlock(&sink->mu);
    return stopping;
}

/* A sign of life, and a look at how the server does. The epoch tells whether its data were dropped meanwhile.
 */
static void beat(struct sink *sink)
{
    redisContext *context = sink->connection.context;
    redisReply *reply = redisCommand(context, "EVALSHA %s 2 %s %s %s %s 1", sink->connection.sha[SCRIPT_BEAT],
                                     sink->names->head, sink->names->tags, sink->new_epoch, BEAT_SWEEP);
    sink->next_beat_ms = sink_now_ms() + BEAT_MS;
    if (!reply) {
        sink_end_session(sink, context->errstr);
        return;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        sink_may_repeat(sink, reply);
    } else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
               reply->element[1]->type == REDIS_REPLY_STRING) {
        const char *epoch = reply->element[1]->str;
        if (sink->epoch[0] && strcmp(sink->epoch, epoch) != 0)
            sink_end_session(sink, "redis has lost its data: another epoch");
        else
            sink_learn_epoch(sink, epoch);
    }
    freeReplyObject(reply);
}

static void check_evicted_keys(struct sink *sink)
{
    redisReply *reply = redisCommand(sink->connection.context, "INFO stats");
    sink->next_evicted_check_ms = sink_now_ms() + EVICTED_CHECK_MS;
    if (!reply) {
        sink_end_session(sink, sink->connection.context->errstr);
        return;
    }
    const char *field = reply->type == REDIS_REPLY_STRING ? strstr(reply->str, "evicted_keys:") : NULL;
    if (field) {
        int64_t evicted = strtoll(field + strlen("evicted_keys:"), NULL, 10);
        if (evicted > sink->evicted_keys && strncmp(sink->connection.policy, "allkeys-", 8) == 0)
            log_line(LOG_WARNING,
                     "redis evicts keys under memory pressure; tag sets or fences may be among them",
                     log_number("evicted", evicted - sink->evicted_keys),
                     log_text("remedy", "raise maxmemory, or use a volatile-* policy"));
        sink->evicted_keys = evicted;
    }
    freeReplyObject(reply);
}

static void run_task(struct sink *sink, struct sink_task *task)
{
    int result = task->run(task, &sink->connection, sink->names);
    char why[sizeof sink->connection.error];
    snprintf(why, sizeof why, "%s", sink->connection.error);
    pthread_mutex_lock(&sink->mu);
    sink->is_task_running = false;
    if (result == 0) {
        task->is_done = true;
        task->session = sink->session;
        sink->task = NULL;
        sink->has_changed = true;
    }
    sink_tell_pipeline(sink);
    pthread_mutex_unlock(&sink->mu);
    if (result < 0) {
        sink_end_session(sink, why);
        sink_back_off(sink);
    }
}

/* Waits for work. Returns the task to run, if its turn has come. */
static struct sink_task *wait_for_work(struct sink *sink)
{
    struct sink_task *task = NULL;
    pthread_mutex_lock(&sink->mu);
    while (!sink->is_stopping && !sink->queue && sink->sent_count == 0 && !sink->task) {
        int64_t wait_ms = sink->next_beat_ms - sink_now_ms();
        if (wait_ms <= 0)
            break;
        struct timespec deadline = sink_after_ms(wait_ms);
        pthread_cond_timedwait(&sink->to_sink, &sink->mu, &deadline);
    }
    if (sink->task && !sink->queue && sink->sent_count == 0) {
        task = sink->task;
        sink->is_task_running = true;
    }
    pthread_mutex_unlock(&sink->mu);
    return task;
}

/* Batches of sessions that are over come back even while there is no connection. */
static void abandon_queue(struct sink *sink)
{
    pthread_mutex_lock(&sink->mu);
    bool has_any = sink->queue != NULL;
    while (sink->queue) {
        struct batch *batch = sink->queue;
        sink->queue = batch->next_in_queue;
        sink_finish(sink, batch, BATCH_ABANDONED);
    }
    sink->queue_end = &sink->queue;
    if (has_any)
        sink_tell_pipeline(sink);
    pthread_mutex_unlock(&sink->mu);
}

void *sink_main(void *arg)
{
    struct sink *sink = arg;
    while (!sink_is_stopping(sink)) {
        if (!sink->connection.context) {
            abandon_queue(sink);
            if (begin_session(sink) < 0)
                sink_back_off(sink);
            continue;
        }
        struct sink_task *task = wait_for_work(sink);
        if (task) {
            run_task(sink, task);
        } else if (sink->sent_count == 0 && sink_now_ms() >= sink->next_beat_ms) {
            beat(sink);
            if (sink->connection.context && sink_now_ms() >= sink->next_evicted_check_ms)
                check_evicted_keys(sink);
        } else if (sink_send_queued(sink) == 0 && sink->sent_count > 0) {
            sink_read_oldest(sink);
        }
    }
    connection_close(&sink->connection);
    return NULL;
}
