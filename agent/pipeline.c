#include "pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "align.h"
#include "batch.h"
#include "dead_letter.h"
#include "flush.h"
#include "log.h"
#include "names.h"
#include "realign.h"
#include "receipts.h"
#include "sink.h"
#include "source.h"

#define POLL_MS         100  /* longest wait for Kafka: what else there is to do is looked at this often */
#define STALL_MS        1000 /* without room for a batch: stop reading, keep polling */
#define REVOKE_WAIT_MS  2000 /* for batches in flight, when partitions are taken away */
#define STOP_WAIT_MS    2000 /* the same on a stop */
#define LEAVE_MS        1500 /* to commit and leave the group */
#define LETTERS_WAIT_MS 500
#define LAG_EVERY_MS    500

struct pipeline {
    /* set at creation */
    const struct config *config;
    struct pipeline_observer observer;
    struct names names;
    struct pipeline_stats stats;
    _Atomic bool is_stopping; /* relaxed: nothing else is published by it */

    /* pipeline's thread only */
    struct source *source;
    struct sink *sink;
    struct dead_letter *letters;
    struct rules_scratch *scratch;
    struct realign *realign;
    struct batch *batch;       /* being filled, or NULL */
    struct receipts *receipts; /* of finished batches */
    int64_t stalled_since_ms;  /* 0: there is room */
    int64_t next_lag_ms;
    bool must_end; /* fatal error, or policy "stop" */
    /* of the event in work */
    const struct event_source *event;
    char *explanation;
    size_t explanation_size;
};

#define COUNT(pipeline, counter, n)                                                                          \
    atomic_fetch_add_explicit(&(pipeline)->stats.counter, (uint64_t)(n), memory_order_relaxed)

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void out_of_memory(void)
{
    /* Offsets are stored only after the fact: a crash loses nothing, and a supervisor starts us again. */
    log_line(LOG_ERROR, "out of memory",
             log_text("effect", "ends; a restart goes on where this one stopped"));
    abort();
}

/* --- one event --- */

static void explain_name(struct pipeline *pipeline, const char *kind, const char *name, size_t size)
{
    char text[128];
    int n = snprintf(text, sizeof text, " %s %.*s", kind, (int)(size < 90 ? size : 90), name);
    char *explanation = realloc(pipeline->explanation, pipeline->explanation_size + (size_t)n + 1);
    if (!explanation)
        return;
    memcpy(explanation + pipeline->explanation_size, text, (size_t)n + 1);
    pipeline->explanation = explanation;
    pipeline->explanation_size += (size_t)n;
}

static void note_match(struct pipeline *pipeline, const struct rule *rule, const char *kind, const char *name,
                       size_t size)
{
    struct batch *batch = pipeline->batch;
    if (pipeline->config->trace && batch->cause.offset < 0) {
        snprintf(batch->cause.topic, sizeof batch->cause.topic, "%s", pipeline->event->topic);
        batch->cause.partition = pipeline->event->partition;
        batch->cause.offset = pipeline->event->offset;
        batch->cause.rule = rule_name(rule);
    }
    if (pipeline->observer.explained) {
        if (!pipeline->explanation)
            explain_name(pipeline, rule_name(rule), pipeline->event->topic, strlen(pipeline->event->topic));
        explain_name(pipeline, kind, name, size);
    }
}

static int on_key(void *arg, const struct rule *rule, const char *key, size_t size)
{
    struct pipeline *pipeline = arg;
    if (batch_add_key(pipeline->batch, key, size) < 0)
        out_of_memory();
    note_match(pipeline, rule, "key", key, size);
    return 0;
}

static int on_tag(void *arg, const struct rule *rule, const char *tag, size_t size)
{
    struct pipeline *pipeline = arg;
    if (batch_add_tag(pipeline->batch, tag, size) < 0)
        out_of_memory();
    note_match(pipeline, rule, "tag", tag, size);
    return 0;
}

static struct letters *letters_of(struct batch *batch)
{
    if (!batch->letters && !(batch->letters = calloc(1, sizeof *batch->letters)))
        out_of_memory();
    return batch->letters;
}

/* An event that can never be handled. True: go on behind it. */
static bool bury(struct pipeline *pipeline, const struct event_source *event, const struct event_error *error)
{
    COUNT(pipeline, dead_letters, 1);
    log_limited(LOG_WARNING, "event cannot be handled", log_text("error", error->text),
                log_text("rule", error->rule), log_text("topic", event->topic),
                log_number("partition", event->partition), log_number("offset", event->offset));
    if (pipeline->config->dead_letter.policy == DEAD_LETTER_SKIP)
        return true;
    if (pipeline->config->dead_letter.policy == DEAD_LETTER_SEND &&
        dead_letter_send(pipeline->letters, letters_of(pipeline->batch), event, error) == 0)
        return true;
    log_line(
        LOG_ERROR, "stopping before an event that cannot be handled", log_text("topic", event->topic),
        log_number("partition", event->partition), log_number("offset", event->offset),
        log_text("remedy",
                 "mend the rule or the event, or set dead_letter.policy to \"dead-letter\" or \"skip\""));
    pipeline->must_end = true;
    return false;
}

/* decode -> rules -> batch; then the partition stands behind the event. */
static void handle_event(struct pipeline *pipeline, const struct event_source *event,
                         struct source_partition *partition)
{
    const struct rules_sink sink = {.key = on_key, .tag = on_tag, .arg = pipeline};
    struct event_error error = {.rule = NULL};
    size_t matched = 0;
    pipeline->event = event;
    int status = partition->rules
                     ? rules_apply(partition->rules, event, pipeline->scratch, &sink, &matched, &error)
                     : 0;
    if (status == EVENT_NO_MEMORY)
        out_of_memory();
    if (status < 0 && !bury(pipeline, event, &error))
        return;
    int64_t from = partition->is_recorded ? partition->next : -1;
    if (batch_advance(pipeline->batch, partition, partition->field, from, event->offset + 1) < 0)
        out_of_memory();
    partition->next = event->offset + 1;
    partition->is_recorded = true;
    COUNT(pipeline, events, 1);
    COUNT(pipeline, events_matched, matched > 0);
    if (pipeline->explanation) {
        batch_explain(pipeline->batch, pipeline->explanation + 1);
        free(pipeline->explanation);
        pipeline->explanation = NULL;
        pipeline->explanation_size = 0;
    }
}

/* --- batches --- */

static void submit(struct pipeline *pipeline)
{
    pipeline->batch->assignment = source_assignment(pipeline->source);
    sink_submit(pipeline->sink, pipeline->batch, realign_session(pipeline->realign));
    pipeline->batch = NULL;
}

static void tell_observer(struct pipeline *pipeline, struct batch *batch)
{
    if (!pipeline->observer.explained || batch->explained_size == 0)
        return;
    for (const char *line = batch->explained; line < batch->explained + batch->explained_size;
         line += strlen(line) + 1) {
        char text[1024];
        snprintf(text, sizeof text, "%.900s -> %llu cached keys%s", line, (unsigned long long)batch->members,
                 batch->events > 1 ? " (whole batch)" : "");
        pipeline->observer.explained(pipeline->observer.arg, text);
    }
}

/* Its offsets wait for its dead letters, if it has any; the batch itself is free again. */
static void give_back(struct pipeline *pipeline, struct batch *batch)
{
    if (receipts_add(pipeline->receipts, batch) < 0)
        out_of_memory();
    sink_release(pipeline->sink, batch);
}

static void count_applied(struct pipeline *pipeline, struct batch *batch)
{
    size_t keys, tags;
    batch_keys(batch, &keys);
    batch_tags(batch, &tags);
    COUNT(pipeline, keys, keys);
    COUNT(pipeline, tags, tags);
    COUNT(pipeline, members, batch->members);
    COUNT(pipeline, batches, 1);
    if (batch->seq)
        atomic_store_explicit(&pipeline->stats.broadcasts, batch->seq, memory_order_relaxed);
    tell_observer(pipeline, batch);
}

/* Takes what the sink has finished. Offsets are stored only when Redis has the batch and the broker has all
 * dead letters up to it. */
static void collect(struct pipeline *pipeline)
{
    struct batch *batch;
    dead_letter_serve(pipeline->letters, 0);
    while ((batch = sink_finished(pipeline->sink))) {
        if (batch->outcome == BATCH_APPLIED)
            count_applied(pipeline, batch);
        give_back(pipeline, batch);
    }
    receipts_settle(pipeline->receipts, pipeline->source);
}

/* Events read but not submitted are read again later. */
static void drop_batch(struct pipeline *pipeline)
{
    if (!pipeline->batch)
        return;
    pipeline->batch->outcome = BATCH_ABANDONED;
    give_back(pipeline, pipeline->batch);
    pipeline->batch = NULL;
}

/* Waits for the batches in flight, while Redis answers at all. */
static void drain(struct pipeline *pipeline, int timeout_ms)
{
    int64_t deadline = monotonic_ms() + timeout_ms;
    if (pipeline->batch && !batch_is_empty(pipeline->batch) && realign_is_done(pipeline->realign))
        submit(pipeline);
    collect(pipeline);
    while ((sink_in_flight(pipeline->sink) > 0 || receipts_count(pipeline->receipts) > 0) &&
           monotonic_ms() < deadline) {
        if (sink_in_flight(pipeline->sink) > 0)
            sink_wait(pipeline->sink, 20);
        else
            dead_letter_serve(pipeline->letters, 20);
        collect(pipeline);
    }
}

/* Partitions are about to be taken away: what was begun is finished and stored, so that the next owner need
 * not repeat it. */
static void on_revoke(void *arg)
{
    struct pipeline *pipeline = arg;
    drain(pipeline, sink_session(pipeline->sink) ? REVOKE_WAIT_MS : 0);
}

/* --- the loop --- */

/* No room for another batch: Redis is slow or away. Kafka is polled all the same, or the group would throw us
 * out. */
static void wait_for_room(struct pipeline *pipeline)
{
    int64_t now = monotonic_ms();
    if (!pipeline->stalled_since_ms)
        pipeline->stalled_since_ms = now;
    if (now - pipeline->stalled_since_ms < STALL_MS) {
        sink_wait(pipeline->sink, POLL_MS);
        return;
    }
    log_limited(LOG_WARNING, "redis or the dead-letter topic does not keep up: reading pauses",
                log_number("batches", SINK_BATCHES),
                log_number("waiting", (int64_t)receipts_count(pipeline->receipts)));
    realign_request(pipeline->realign);
    pipeline->stalled_since_ms = 0;
}

static void read_one(struct pipeline *pipeline, int timeout_ms, enum source_poll *ret_poll)
{
    struct event_source event;
    struct source_partition *partition;
    *ret_poll = source_poll(pipeline->source, timeout_ms, &event, &partition);
    if (*ret_poll == SOURCE_EVENT)
        handle_event(pipeline, &event, partition);
    else if (*ret_poll == SOURCE_FATAL)
        pipeline->must_end = true;
}

/* Reads what is there until the batch is full. While Redis works on the one before, it waits for more: under
 * load batches grow by themselves, without it each event leaves at once. */
static void fill(struct pipeline *pipeline)
{
    enum source_poll poll = SOURCE_EVENT;
    while (poll == SOURCE_EVENT && pipeline->batch && !batch_is_full(pipeline->batch) && !pipeline->must_end)
        read_one(pipeline, 0, &poll);
    if (!pipeline->batch || !realign_is_done(pipeline->realign))
        return;
    bool is_empty = batch_is_empty(pipeline->batch);
    if (batch_is_full(pipeline->batch) || (!is_empty && sink_in_flight(pipeline->sink) == 0))
        submit(pipeline);
    else
        read_one(pipeline, POLL_MS, &poll); /* the sink wakes it */
}

static void update_lag(struct pipeline *pipeline)
{
    int64_t now = monotonic_ms();
    if (now < pipeline->next_lag_ms)
        return;
    pipeline->next_lag_ms = now + LAG_EVERY_MS;
    atomic_store_explicit(&pipeline->stats.lag_events, source_lag(pipeline->source), memory_order_relaxed);
    atomic_store_explicit(&pipeline->stats.redis_connects, sink_connects(pipeline->sink),
                          memory_order_relaxed);
    atomic_store_explicit(&pipeline->stats.redis_failures, sink_failures(pipeline->sink),
                          memory_order_relaxed);
}

static void step(struct pipeline *pipeline)
{
    collect(pipeline);
    update_lag(pipeline);
    if (realign_is_needed(pipeline->realign)) {
        enum source_poll poll;
        drop_batch(pipeline);
        source_rest(pipeline->source);
        if (!realign_step(pipeline->realign))
            read_one(pipeline, POLL_MS / 4, &poll);
    } else if (receipts_count(pipeline->receipts) >= RECEIPTS_MAX ||
               (!pipeline->batch && !(pipeline->batch = sink_take(pipeline->sink)))) {
        wait_for_room(pipeline);
    } else {
        pipeline->stalled_since_ms = 0;
        source_hurry(pipeline->source);
        fill(pipeline);
    }
}

static void on_sink(void *arg)
{
    struct pipeline *pipeline = arg;
    source_wake(pipeline->source);
}

static int open_all(struct pipeline *pipeline)
{
    char error[512] = "out of memory";
    pipeline->scratch = rules_scratch_create();
    pipeline->receipts = receipts_create();
    if (!pipeline->scratch || !pipeline->receipts ||
        source_open(pipeline->config, &pipeline->source, error, sizeof error) < 0)
        goto fail;
    source_on_revoke(pipeline->source, on_revoke, pipeline);
    if (dead_letter_open(pipeline->config, &pipeline->letters, error, sizeof error) < 0 ||
        sink_create(pipeline->config, &pipeline->names, on_sink, pipeline, &pipeline->sink, error,
                    sizeof error) < 0)
        goto fail;
    pipeline->realign = realign_create(pipeline->config, &pipeline->names, pipeline->source, pipeline->sink,
                                       &pipeline->stats);
    if (!pipeline->realign)
        goto fail;
    return 0;
fail:
    log_line(LOG_ERROR, "cannot start", log_text("error", error));
    return -1;
}

static void close_all(struct pipeline *pipeline)
{
    if (pipeline->sink && pipeline->realign)
        drain(pipeline, sink_session(pipeline->sink) ? STOP_WAIT_MS : 0);
    realign_destroy(&pipeline->realign);
    if (pipeline->batch) {
        free(pipeline->batch->letters);
        sink_release(pipeline->sink, pipeline->batch);
        pipeline->batch = NULL;
    }
    sink_destroy(&pipeline->sink); /* before the source, which its thread wakes */
    source_close(&pipeline->source, LEAVE_MS);
    dead_letter_close(&pipeline->letters, LETTERS_WAIT_MS);
    receipts_destroy(&pipeline->receipts);
    rules_scratch_destroy(&pipeline->scratch);
}

int pipeline_run(struct pipeline *pipeline)
{
    int result = -1;
    if (open_all(pipeline) == 0) {
        while (!atomic_load_explicit(&pipeline->is_stopping, memory_order_relaxed) && !pipeline->must_end)
            step(pipeline);
        result = pipeline->must_end ? -1 : 0;
    }
    close_all(pipeline);
    return result;
}

int pipeline_create(const struct config *config, const struct pipeline_observer *observer,
                    struct pipeline **ret_pipeline, char *error, size_t error_size)
{
    struct pipeline *pipeline = calloc(1, sizeof *pipeline);
    if (!pipeline ||
        names_init(&pipeline->names, config->namespace_name, config->tag_prefix, config->lease_prefix) < 0) {
        snprintf(error, error_size, "out of memory");
        free(pipeline);
        return -1;
    }
    pipeline->config = config;
    if (observer)
        pipeline->observer = *observer;
    atomic_store_explicit(&pipeline->stats.lag_events, -1, memory_order_relaxed);
    *ret_pipeline = pipeline;
    return 0;
}

void pipeline_stop(struct pipeline *pipeline)
{
    atomic_store_explicit(&pipeline->is_stopping, true, memory_order_relaxed);
}

const struct pipeline_stats *pipeline_stats(const struct pipeline *pipeline)
{
    return &pipeline->stats;
}

void pipeline_destroy(struct pipeline **pipeline)
{
    if (!pipeline || !*pipeline)
        return;
    free((*pipeline)->explanation);
    names_deinit(&(*pipeline)->names);
    free(*pipeline);
    *pipeline = NULL;
}
