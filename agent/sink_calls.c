/* Batches through the pipe: one call each, several on their way; large ones and those with more to do alone,
 * step by step. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "sink_internal.h"

static int send_out(struct sink *sink)
{
    struct connection *connection = &sink->connection;
    if (!sink->out.has_failed && connection_send(connection, sink->out.data, sink->out.size) == 0)
        return 0;
    sink_end_session(sink, sink->out.has_failed ? "out of memory" : connection->error);
    return -1;
}

static redisReply *receive(struct sink *sink)
{
    void *reply = NULL;
    if (redisGetReply(sink->connection.context, &reply) != REDIS_OK || !reply) {
        sink_end_session(sink, sink->connection.context->errstr);
        return NULL;
    }
    return reply;
}

/* Handles an error reply: true when the same may be sent again over this connection. */
bool sink_may_repeat(struct sink *sink, const redisReply *reply)
{
    enum reply_error error = reply_error(reply);
    pthread_mutex_lock(&sink->mu);
    sink->failures++;
    pthread_mutex_unlock(&sink->mu);
    if (error == REPLY_NOSCRIPT || error == REPLY_MOVED || error == REPLY_DENIED) {
        char text[256];
        snprintf(text, sizeof text, "%s", reply->str);
        sink_end_session(
            sink, text); /* the next connection loads the scripts, finds the right server, logs in again */
        if (error != REPLY_NOSCRIPT)
            sink_back_off(sink);
        return false;
    }
    log_limited(error == REPLY_TRANSIENT ? LOG_WARNING : LOG_ERROR,
                "redis refused a batch; it will be tried again", log_text("error", reply->str));
    sink_back_off(sink);
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

void sink_learn_epoch(struct sink *sink, const char *epoch)
{
    snprintf(sink->epoch, sizeof sink->epoch, "%s", epoch);
    if (strcmp(epoch, sink->new_epoch) == 0)
        epoch_random(sink->new_epoch); /* taken: another history must get another one */
}

static void batch_applied(struct sink *sink, struct batch *batch, const struct invalidate_result *result)
{
    batch->members += result->members;
    batch->seq = result->seq;
    sink_learn_epoch(sink, result->epoch);
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
        step = sink_may_repeat(sink, reply) ? STEP_AGAIN : STEP_SESSION_ENDED;
    } else {
        invalidate_decode(reply, *first_tag, &result);
        if (result.status == INVALIDATE_DONE) {
            batch_applied(sink, batch, &result);
            step = STEP_DONE;
        } else if (result.status == INVALIDATE_MORE) {
            batch->members += result.members;
            *first_tag = result.next_tag;
        } else {
            sink_end_session(sink, result.status == INVALIDATE_BAD
                                       ? "invalidate.lua answered in an unknown form"
                                       : "redis has lost state");
            step = STEP_SESSION_ENDED;
        }
    }
    freeReplyObject(reply);
    return step;
}

/* One slice of a large batch, or all of a small one, call by call until it is done. */
static int run_calls(struct sink *sink, struct batch *batch, const struct invalidate_call *call)
{
    size_t first_tag = 0;
    enum step step;
    do {
        step = one_call(sink, batch, call, &first_tag);
    } while (step == STEP_AGAIN && !sink_is_stopping(sink));
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
        sink_end_session(sink, sink_is_stopping(sink) ? "stopping" : "out of memory");
    free(partitions);
    return result;
}

/* Sends queued batches, as many as may share the pipe. A batch of several calls must be alone in it. */
int sink_send_queued(struct sink *sink)
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
            sink_finish(sink, batch, BATCH_ABANDONED);
            sink_tell_pipeline(sink);
            continue;
        }
        sink->sent[sink->sent_count++] = batch;
        if (!is_one_call(batch))
            break;
    }
    pthread_mutex_unlock(&sink->mu);
    for (size_t i = before; i < sink->sent_count; i++) {
        if (is_one_call(sink->sent[i]) && encode_batch(sink, sink->sent[i]) < 0) {
            sink_end_session(sink, "out of memory");
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
    sink_finish(sink, batch, BATCH_APPLIED);
    sink_tell_pipeline(sink);
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
void sink_read_oldest(struct sink *sink)
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
