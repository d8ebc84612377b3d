#include "realign.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "align.h"
#include "flush.h"
#include "log.h"

#define KAFKA_WAIT_MS 1000

enum stage { STAGE_DRAIN, STAGE_APPLIED, STAGE_FLUSH };

/* Task of the sink: reads what Redis has applied of our partitions. */
struct read_applied {
    struct sink_task task; /* first member */
    char **fields;         /* copies: a revocation may come while the sink reads them */
    int64_t *applied;
    size_t count;
};

struct realign {
    const struct config *config;
    const struct names *names;
    struct source *source;
    struct sink *sink;
    struct pipeline_stats *stats;
    char new_epoch[EPOCH_SIZE];

    uint64_t aligned_assignment, aligned_session; /* 0: never */
    bool is_requested;

    /* of the round under way */
    enum stage stage;
    uint64_t assignment, session;
    int64_t *committed;
    struct read_applied read;
    struct flush flush;
    struct align_decision *decisions;
};

struct realign *realign_create(const struct config *config, const struct names *names, struct source *source,
                               struct sink *sink, struct pipeline_stats *stats)
{
    struct realign *realign = calloc(1, sizeof *realign);
    if (!realign)
        return NULL;
    realign->config = config;
    realign->names = names;
    realign->source = source;
    realign->sink = sink;
    realign->stats = stats;
    epoch_random(realign->new_epoch);
    return realign;
}

static void end_round(struct realign *realign)
{
    sink_cancel(realign->sink);
    free(realign->committed);
    for (size_t i = 0; realign->read.fields && i < realign->read.count; i++)
        free(realign->read.fields[i]);
    free(realign->read.fields);
    free(realign->read.applied);
    free(realign->decisions);
    flush_deinit(&realign->flush);
    realign->committed = NULL;
    realign->decisions = NULL;
    memset(&realign->read, 0, sizeof realign->read);
    realign->stage = STAGE_DRAIN;
}

void realign_destroy(struct realign **realign)
{
    if (!realign || !*realign)
        return;
    end_round(*realign);
    free(*realign);
    *realign = NULL;
}

bool realign_is_needed(struct realign *realign)
{
    return realign->is_requested || realign->aligned_session != sink_session(realign->sink) ||
           realign->aligned_assignment != source_assignment(realign->source) ||
           source_has_gap(realign->source) || realign->aligned_session == 0;
}

bool realign_is_done(struct realign *realign)
{
    return !realign_is_needed(realign);
}

void realign_request(struct realign *realign)
{
    realign->is_requested = true;
}

uint64_t realign_session(const struct realign *realign)
{
    return realign->aligned_session;
}

static int read_applied_run(struct sink_task *task, struct connection *connection, const struct names *names)
{
    struct read_applied *read = (struct read_applied *)task;
    for (size_t i = 0; i < read->count; i++)
        redisAppendCommand(connection->context, "HGET %s %s", names->applied, read->fields[i]);
    int result = 0;
    for (size_t i = 0; i < read->count && connection->context->err == 0; i++) {
        void *any = NULL;
        if (redisGetReply(connection->context, &any) != REDIS_OK)
            break;
        redisReply *reply = any;
        read->applied[i] = reply->type == REDIS_REPLY_STRING ? strtoll(reply->str, NULL, 10) : ALIGN_UNKNOWN;
        if (reply->type == REDIS_REPLY_ERROR) {
            snprintf(connection->error, sizeof connection->error, "HGET %s: %s", names->applied, reply->str);
            result = -1;
        }
        freeReplyObject(reply);
    }
    if (connection->context->err) {
        snprintf(connection->error, sizeof connection->error, "%s", connection->context->errstr);
        result = -1;
    }
    return result;
}

/* Steps 1 and 2. */
static void begin_round(struct realign *realign)
{
    size_t count;
    if (sink_in_flight(realign->sink) > 0 || sink_session(realign->sink) == 0)
        return;
    realign->assignment = source_assignment(realign->source);
    realign->session = sink_session(realign->sink);
    const struct source_partition *partitions = source_partitions(realign->source, &count);
    if (count == 0) { /* nothing is assigned: nothing to find out */
        realign->aligned_assignment = realign->assignment;
        realign->aligned_session = realign->session;
        realign->is_requested = false;
        return;
    }
    realign->committed = calloc(count + 1, sizeof *realign->committed);
    realign->decisions = calloc(count + 1, sizeof *realign->decisions);
    realign->read.fields = calloc(count + 1, sizeof *realign->read.fields);
    realign->read.applied = calloc(count + 1, sizeof *realign->read.applied);
    if (!realign->committed || !realign->decisions || !realign->read.fields || !realign->read.applied ||
        source_committed(realign->source, realign->committed, KAFKA_WAIT_MS) < 0) {
        end_round(realign);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        realign->read.fields[i] = strdup(partitions[i].field);
        realign->read.count = i + 1;
        if (!realign->read.fields[i]) {
            end_round(realign);
            return;
        }
    }
    realign->read.task.run = read_applied_run;
    realign->stage = STAGE_APPLIED;
    sink_run(realign->sink, &realign->read.task);
}

static void add_glob(void *arg, const char *glob)
{
    struct realign *realign = arg;
    if (flush_add_glob(&realign->flush, glob) < 0)
        abort(); /* out of memory: nothing is stored yet, nothing is lost */
}

static void report(struct realign *realign, const struct source_partition *partition,
                   const struct align_decision *decision, size_t i)
{
    if (decision->is_rewind) {
        atomic_fetch_add_explicit(&realign->stats->rewinds, 1, memory_order_relaxed);
        log_line(LOG_WARNING, "redis had lost state: reading again", log_text("topic", partition->topic),
                 log_number("partition", partition->id), log_number("applied", realign->read.applied[i]),
                 log_number("committed", realign->committed[i]), log_number("position", partition->stored));
    }
    if (decision->must_flush) {
        atomic_fetch_add_explicit(&realign->stats->gaps, 1, memory_order_relaxed);
        log_line(LOG_WARNING,
                 partition->has_gap
                     ? "events were lost in kafka: flushing what the topic's rules can evict"
                     : "redis knows nothing of this partition: flushing what its rules can evict",
                 log_text("topic", partition->topic), log_number("partition", partition->id),
                 log_number("from", decision->offset));
    }
}

/* Step 3 for one partition: the decision, as a plain offset. */
static int decide(struct realign *realign, struct source_partition *partition, size_t i)
{
    const struct align_input input = {.committed = realign->committed[i],
                                      .applied = realign->read.applied[i],
                                      .position = partition->stored,
                                      .has_gap = partition->has_gap,
                                      .start = realign->config->kafka.start};
    struct align_decision *decision = &realign->decisions[i];
    bool must_record;
    int64_t first, end;
    *decision = align_decide(&input);
    must_record = decision->must_flush || decision->start == ALIGN_LATEST;
    if (decision->start != ALIGN_OFFSET) {
        if (source_bounds(realign->source, partition, &first, &end, KAFKA_WAIT_MS) < 0)
            return -1;
        decision->offset = decision->start == ALIGN_LATEST ? end : first;
    }
    if (decision->must_flush && partition->rules)
        rules_scope(realign->config->rules, partition->topic, realign->names->tag_prefix, add_glob, realign);
    if (must_record && flush_set_applied(&realign->flush, partition->field, decision->offset) < 0)
        return -1;
    return 0;
}

/* Steps 3 and 4. */
static void decide_all(struct realign *realign)
{
    size_t count;
    struct source_partition *partitions = source_partitions(realign->source, &count);
    flush_init(&realign->flush, realign->new_epoch, realign->config->redis.log_length);
    for (size_t i = 0; i < count; i++) {
        if (decide(realign, &partitions[i], i) < 0) {
            end_round(realign);
            return;
        }
    }
    for (size_t i = 0; i < count; i++)
        report(realign, &partitions[i], &realign->decisions[i], i);
    realign->stage = STAGE_FLUSH;
    sink_run(realign->sink, &realign->flush.task);
}

/* Step 5. */
static bool start_reading(struct realign *realign)
{
    size_t count;
    struct source_partition *partitions = source_partitions(realign->source, &count);
    for (size_t i = 0; i < count; i++) {
        const struct align_decision *decision = &realign->decisions[i];
        bool is_set = decision->must_flush || decision->start == ALIGN_LATEST;
        partitions[i].next = decision->offset;
        partitions[i].is_recorded = is_set || realign->read.applied[i] != ALIGN_UNKNOWN;
        partitions[i].stored = is_set || decision->is_rewind ? decision->offset : partitions[i].stored;
        partitions[i].has_gap = false;
    }
    if (realign->flush.keys) {
        atomic_fetch_add_explicit(&realign->stats->flushed_keys, realign->flush.keys, memory_order_relaxed);
        log_line(LOG_INFO, "flushed", log_number("keys", (int64_t)realign->flush.keys),
                 log_number("patterns", (int64_t)realign->flush.globs_count));
    }
    bool is_reading = source_read(realign->source) == 0;
    if (is_reading) {
        realign->aligned_assignment = realign->assignment;
        realign->aligned_session = realign->session;
        realign->is_requested = false;
        log_line(LOG_INFO, "reading", log_number("partitions", (int64_t)count),
                 log_number("session", (int64_t)realign->session));
    }
    end_round(realign);
    return is_reading;
}

bool realign_step(struct realign *realign)
{
    uint64_t session;
    if (realign->stage != STAGE_DRAIN && (realign->assignment != source_assignment(realign->source) ||
                                          realign->session != sink_session(realign->sink)))
        end_round(realign); /* the ground moved: from the start */
    switch (realign->stage) {
    case STAGE_DRAIN:
        begin_round(realign);
        return false;
    case STAGE_APPLIED:
        if (sink_task_is_done(realign->sink, &realign->read.task, &session))
            decide_all(realign);
        return false;
    case STAGE_FLUSH:
        return sink_task_is_done(realign->sink, &realign->flush.task, &session) && start_reading(realign);
    }
    return false;
}
