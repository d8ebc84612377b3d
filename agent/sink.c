#include "sink.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

#include "log.h"

#define CONNECT_MS       2000 /* for each step of connecting */
#define TIMEOUT_S        5    /* for one answer: well above the slowest script, below Kafka's session */
#define BEAT_MS          250
#define BEAT_SWEEP       "20" /* tag sets looked at a beat */
#define BACKOFF_MIN_MS   50
#define BACKOFF_MAX_MS   2000
#define EVICTED_CHECK_MS 10000

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

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct timespec after_ms(int64_t ms)
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
    struct timespec deadline = after_ms(timeout_ms);
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

/* --- the sink's side --- */

static void tell_pipeline(struct sink *sink)
{
    pthread_cond_broadcast(&sink->to_pipeline);
    pthread_mutex_unlock(&sink->mu);
    sink->wake(sink->wake_arg);
    pthread_mutex_lock(&sink->mu);
}

/* Locked. */
static void finish(struct sink *sink, struct batch *batch, enum batch_outcome outcome)
{
    batch->outcome = outcome;
    batch->next_in_queue = NULL;
    *sink->finished_end = batch;
    sink->finished_end = &batch->next_in_queue;
}

/* Sleeps with jitter, between half of and all of the back-off, which doubles; ends early on a stop. */
static void back_off(struct sink *sink)
{
    unsigned random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random = 0;
    int half = sink->backoff_ms / 2;
    struct timespec deadline = after_ms(half + (int)(random % (unsigned)(half + 1)));
    sink->backoff_ms = sink->backoff_ms * 2 < BACKOFF_MAX_MS ? sink->backoff_ms * 2 : BACKOFF_MAX_MS;
    pthread_mutex_lock(&sink->mu);
    while (!sink->is_stopping && pthread_cond_timedwait(&sink->to_sink, &sink->mu, &deadline) != ETIMEDOUT)
        ;
    pthread_mutex_unlock(&sink->mu);
}

static void end_session(struct sink *sink, const char *why) /* why may lie within the connection */
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
        finish(sink, sink->sent[i], BATCH_ABANDONED);
    sink->sent_count = 0;
    tell_pipeline(sink);
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
    tell_pipeline(sink);
    pthread_mutex_unlock(&sink->mu);
    return 0;
}

static int send_out(struct sink *sink)
{
    int is_all_out = 0;
    if (sink->out.has_failed) {
        end_session(sink, "out of memory");
        return -1;
    }
    if (redisAppendFormattedCommand(sink->connection.context, sink->out.data, sink->out.size) != REDIS_OK) {
        end_session(sink, sink->connection.context->errstr);
        return -1;
    }
    while (!is_all_out) {
        if (redisBufferWrite(sink->connection.context, &is_all_out) != REDIS_OK) {
            end_session(sink, sink->connection.context->errstr);
            return -1;
        }
    }
    return 0;
}

static redisReply *receive(struct sink *sink)
{
    void *reply = NULL;
    if (redisGetReply(sink->connection.context, &reply) != REDIS_OK || !reply) {
        end_session(sink, sink->connection.context->errstr);
        return NULL;
    }
    return reply;
}

/* Handles an error reply: true when the same may be sent again over this connection. */
static bool may_repeat(struct sink *sink, const redisReply *reply)
{
    enum reply_error error = reply_error(reply);
    pthread_mutex_lock(&sink->mu);
    sink->failures++;
    pthread_mutex_unlock(&sink->mu);
    if (error == REPLY_NOSCRIPT || error == REPLY_MOVED || error == REPLY_DENIED) {
        char text[256];
        snprintf(text, sizeof text, "%s", reply->str);
        end_session(sink,
                    text); /* the next connection loads the scripts, finds the right server, logs in again */
        if (error != REPLY_NOSCRIPT)
            back_off(sink);
        return false;
    }
    log_limited(error == REPLY_TRANSIENT ? LOG_WARNING : LOG_ERROR,
                "redis refused a batch; it will be tried again", log_text("error", reply->str));
    back_off(sink);
    return true;
}

static void batch_call(struct sink *sink, struct batch *batch, struct invalidate_call *ret_call)
{
    memset(ret_call, 0, sizeof *ret_call);
    ret_call->new_epoch = sink->new_epoch;
    ret_call->expected_epoch = sink->epoch;
    ret_call->log_length = sink->config->redis.log_length;
    ret_call->broadcasts_members = sink->config->members;
    ret_call->tags = batch_tags(batch, &ret_call->tags_count);
    ret_call->keys = batch_keys(batch, &ret_call->keys_count);
    ret_call->broadcast = batch->broadcast;
}

static size_t names_count(struct batch *batch)
{
    size_t keys, tags;
    batch_keys(batch, &keys);
    batch_tags(batch, &tags);
    return keys + tags;
}

/* A batch becomes one call, unless one event's fan-out made it too large for that. */
static bool is_one_call(struct batch *batch)
{
    return names_count(batch) <= INVALIDATE_NAMES_MAX;
}

static void to_partitions(const struct batch *batch, struct invalidate_partition *out)
{
    for (size_t i = 0; i < batch->partitions_count; i++)
        out[i] = (struct invalidate_partition){batch->partitions[i].field, batch->partitions[i].from,
                                               batch->partitions[i].next};
}

/* The broadcast of one call. */
static int write_broadcast(struct batch *batch, const struct invalidate_call *call)
{
    struct broadcast_writer *writer = batch->broadcast;
    broadcast_writer_clear(writer);
    if (batch->cause.offset >= 0)
        broadcast_writer_cause(writer, batch->cause.topic, batch->cause.partition, batch->cause.offset,
                               batch->cause.rule);
    for (size_t i = 0; i < call->keys_count; i++) {
        if (broadcast_writer_add(writer, BROADCAST_KEYS, call->keys[i].data, call->keys[i].size) < 0)
            return -1;
    }
    for (size_t i = 0; i < call->tags_count; i++) {
        if (broadcast_writer_add(writer, BROADCAST_TAGS, call->tags[i].data, call->tags[i].size) < 0)
            return -1;
    }
    return broadcast_writer_finish(writer);
}

/* Appends the whole batch as one call. */
static int encode_batch(struct sink *sink, struct batch *batch)
{
    struct invalidate_call call;
    struct invalidate_partition *partitions = calloc(batch->partitions_count + 1, sizeof *partitions);
    if (!partitions)
        return -1;
    to_partitions(batch, partitions);
    batch_call(sink, batch, &call);
    call.partitions = partitions;
    call.partitions_count = batch->partitions_count;
    int result = write_broadcast(batch, &call);
    if (result == 0)
        invalidate_encode(&sink->out, sink->connection.sha[SCRIPT_INVALIDATE], sink->names, &call, 0);
    free(partitions);
    return result;
}

static void learn_epoch(struct sink *sink, const char *epoch)
{
    snprintf(sink->epoch, sizeof sink->epoch, "%s", epoch);
    if (strcmp(epoch, sink->new_epoch) == 0)
        epoch_random(sink->new_epoch); /* taken: another history must get another one */
}

static void batch_applied(struct sink *sink, struct batch *batch, const struct invalidate_result *result)
{
    batch->members += result->members;
    batch->seq = result->seq;
    learn_epoch(sink, result->epoch);
    sink->backoff_ms = BACKOFF_MIN_MS;
    if (result->foreign)
        log_limited(LOG_WARNING, "tag sets of another Redis type were left alone",
                    log_number("count", (int64_t)result->foreign),
                    log_text("prefix", sink->names->tag_prefix));
}

enum step { STEP_DONE, STEP_AGAIN, STEP_SESSION_ENDED };

/* Sends one call and reads its answer; *first_tag moves on while the script says that there is more. */
static enum step one_call(struct sink *sink, struct batch *batch, const struct invalidate_call *call,
                          size_t *first_tag)
{
    struct invalidate_result result;
    resp_clear(&sink->out);
    invalidate_encode(&sink->out, sink->connection.sha[SCRIPT_INVALIDATE], sink->names, call, *first_tag);
    if (send_out(sink) < 0)
        return STEP_SESSION_ENDED;
    redisReply *reply = receive(sink);
    if (!reply)
        return STEP_SESSION_ENDED;
    enum step step = STEP_AGAIN;
    if (reply->type == REDIS_REPLY_ERROR) {
        step = may_repeat(sink, reply) ? STEP_AGAIN : STEP_SESSION_ENDED;
    } else {
        invalidate_decode(reply, *first_tag, &result);
        if (result.status == INVALIDATE_DONE) {
            batch_applied(sink, batch, &result);
            step = STEP_DONE;
        } else if (result.status == INVALIDATE_MORE) {
            batch->members += result.members;
            *first_tag = result.next_tag;
        } else {
            end_session(sink, result.status == INVALIDATE_BAD ? "invalidate.lua answered in an unknown form"
                                                              : "redis has lost state");
            step = STEP_SESSION_ENDED;
        }
    }
    freeReplyObject(reply);
    return step;
}

static bool is_stopping(struct sink *sink)
{
    pthread_mutex_lock(&sink->mu);
    bool stopping = sink->is_stopping;
    pthread_mutex_unlock(&sink->mu);
    return stopping;
}

/* One slice of a large batch, or all of a small one, call by call until it is done. */
static int run_calls(struct sink *sink, struct batch *batch, const struct invalidate_call *call)
{
    size_t first_tag = 0;
    enum step step;
    do {
        step = one_call(sink, batch, call, &first_tag);
    } while (step == STEP_AGAIN && !is_stopping(sink));
    return step == STEP_DONE ? 0 : -1;
}

/* A batch alone in the pipe, in as many steps as it takes. Only the last one raises `applied`: a crash in
 * between repeats the batch, which is harmless. 0: applied; -1: the session ended. */
static int run_alone(struct sink *sink, struct batch *batch)
{
    struct invalidate_call whole, call;
    struct invalidate_partition *partitions = calloc(batch->partitions_count + 1, sizeof *partitions);
    size_t tags_done = 0, keys_done = 0;
    int result = -1;
    if (!partitions)
        goto out;
    to_partitions(batch, partitions);
    batch_call(sink, batch, &whole);
    call = whole;
    for (bool is_last = false; !is_last;) {
        size_t tags_left = whole.tags_count - tags_done, keys_left = whole.keys_count - keys_done;
        call.tags = whole.tags + tags_done;
        call.tags_count = tags_left < INVALIDATE_NAMES_MAX ? tags_left : INVALIDATE_NAMES_MAX;
        size_t room = INVALIDATE_NAMES_MAX - call.tags_count;
        call.keys = whole.keys + keys_done;
        call.keys_count = keys_left < room ? keys_left : room;
        tags_done += call.tags_count;
        keys_done += call.keys_count;
        is_last = tags_done == whole.tags_count && keys_done == whole.keys_count;
        call.partitions = is_last ? partitions : NULL;
        call.partitions_count = is_last ? batch->partitions_count : 0;
        if (write_broadcast(batch, &call) < 0 || run_calls(sink, batch, &call) < 0)
            goto out;
    }
    result = 0;
out:
    if (result < 0 && sink->connection.context)
        end_session(sink, is_stopping(sink) ? "stopping" : "out of memory");
    free(partitions);
    return result;
}

/* Sends queued batches, as many as may share the pipe. A batch of several calls must be alone in it. */
static int send_queued(struct sink *sink)
{
    size_t before = sink->sent_count;
    resp_clear(&sink->out);
    pthread_mutex_lock(&sink->mu);
    while (sink->queue && (sink->sent_count == 0 || is_one_call(sink->queue))) {
        struct batch *batch = sink->queue;
        sink->queue = batch->next_in_queue;
        if (!sink->queue)
            sink->queue_end = &sink->queue;
        if (batch->session != sink->session) {
            finish(sink, batch, BATCH_ABANDONED);
            tell_pipeline(sink);
            continue;
        }
        sink->sent[sink->sent_count++] = batch;
        if (!is_one_call(batch))
            break;
    }
    pthread_mutex_unlock(&sink->mu);
    for (size_t i = before; i < sink->sent_count; i++) {
        if (is_one_call(sink->sent[i]) && encode_batch(sink, sink->sent[i]) < 0) {
            end_session(sink, "out of memory");
            return -1;
        }
    }
    return sink->out.size ? send_out(sink) : 0;
}

/* Takes the oldest batch out of the pipe. */
static void finish_oldest(struct sink *sink)
{
    struct batch *batch = sink->sent[0];
    sink->sent_count--;
    memmove(sink->sent, sink->sent + 1, sink->sent_count * sizeof sink->sent[0]);
    pthread_mutex_lock(&sink->mu);
    finish(sink, batch, BATCH_APPLIED);
    tell_pipeline(sink);
    pthread_mutex_unlock(&sink->mu);
}

/* Something other than "done" came for the oldest batch. The others in the pipe were answered too: "done", or
 * "behind" where they follow the oldest one in a partition. Read those answers, then run what is left one by
 * one, in order. */
static void straighten(struct sink *sink)
{
    bool is_applied[SINK_BATCHES] = {false};
    for (size_t i = 1; i < sink->sent_count; i++) {
        redisReply *reply = receive(sink);
        if (!reply)
            return;
        struct invalidate_result result = {.status = INVALIDATE_BAD};
        if (reply->type != REDIS_REPLY_ERROR)
            invalidate_decode(reply, 0, &result);
        freeReplyObject(reply);
        is_applied[i] = result.status == INVALIDATE_DONE;
        if (is_applied[i])
            batch_applied(sink, sink->sent[i], &result);
        else if (result.status == INVALIDATE_MORE)
            sink->sent[i]->members += result.members;
    }
    for (size_t i = 0, count = sink->sent_count; i < count; i++) {
        if (!is_applied[i] && run_alone(sink, sink->sent[0]) < 0)
            return;
        finish_oldest(sink);
    }
}

/* Reads the answer for the oldest batch in the pipe. */
static void read_oldest(struct sink *sink)
{
    struct invalidate_result result = {.status = INVALIDATE_BAD};
    if (!is_one_call(sink->sent[0])) {
        if (run_alone(sink, sink->sent[0]) == 0)
            finish_oldest(sink);
        return;
    }
    redisReply *reply = receive(sink);
    if (!reply)
        return;
    if (reply->type != REDIS_REPLY_ERROR)
        invalidate_decode(reply, 0, &result);
    freeReplyObject(reply);
    if (result.status == INVALIDATE_DONE) {
        batch_applied(sink, sink->sent[0], &result);
        finish_oldest(sink);
        return;
    }
    if (result.status == INVALIDATE_MORE)
        sink->sent[0]->members += result.members;
    straighten(sink);
}

/* A sign of life, and a look at how the server does. The epoch tells whether its data were dropped meanwhile.
 */
static void beat(struct sink *sink)
{
    redisContext *context = sink->connection.context;
    redisReply *reply = redisCommand(context, "EVALSHA %s 2 %s %s %s %s 1", sink->connection.sha[SCRIPT_BEAT],
                                     sink->names->head, sink->names->tags, sink->new_epoch, BEAT_SWEEP);
    sink->next_beat_ms = monotonic_ms() + BEAT_MS;
    if (!reply) {
        end_session(sink, context->errstr);
        return;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        may_repeat(sink, reply);
    } else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
               reply->element[1]->type == REDIS_REPLY_STRING) {
        const char *epoch = reply->element[1]->str;
        if (sink->epoch[0] && strcmp(sink->epoch, epoch) != 0)
            end_session(sink, "redis has lost its data: another epoch");
        else
            learn_epoch(sink, epoch);
    }
    freeReplyObject(reply);
}

static void check_evicted_keys(struct sink *sink)
{
    redisReply *reply = redisCommand(sink->connection.context, "INFO stats");
    sink->next_evicted_check_ms = monotonic_ms() + EVICTED_CHECK_MS;
    if (!reply) {
        end_session(sink, sink->connection.context->errstr);
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
    tell_pipeline(sink);
    pthread_mutex_unlock(&sink->mu);
    if (result < 0) {
        end_session(sink, why);
        back_off(sink);
    }
}

/* Waits for work. Returns the task to run, if its turn has come. */
static struct sink_task *wait_for_work(struct sink *sink)
{
    struct sink_task *task = NULL;
    pthread_mutex_lock(&sink->mu);
    while (!sink->is_stopping && !sink->queue && sink->sent_count == 0 && !sink->task) {
        int64_t wait_ms = sink->next_beat_ms - monotonic_ms();
        if (wait_ms <= 0)
            break;
        struct timespec deadline = after_ms(wait_ms);
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
        finish(sink, batch, BATCH_ABANDONED);
    }
    sink->queue_end = &sink->queue;
    if (has_any)
        tell_pipeline(sink);
    pthread_mutex_unlock(&sink->mu);
}

static void *sink_main(void *arg)
{
    struct sink *sink = arg;
    while (!is_stopping(sink)) {
        if (!sink->connection.context) {
            abandon_queue(sink);
            if (begin_session(sink) < 0)
                back_off(sink);
            continue;
        }
        struct sink_task *task = wait_for_work(sink);
        if (task) {
            run_task(sink, task);
        } else if (sink->sent_count == 0 && monotonic_ms() >= sink->next_beat_ms) {
            beat(sink);
            if (sink->connection.context && monotonic_ms() >= sink->next_evicted_check_ms)
                check_evicted_keys(sink);
        } else if (send_queued(sink) == 0 && sink->sent_count > 0) {
            read_oldest(sink);
        }
    }
    connection_close(&sink->connection);
    return NULL;
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
        seed = (uint64_t)monotonic_ms();
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
