#include "source.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"

#define HEADERS_MAX    64    /* of one record that templates may look into */
#define HURRY_BELOW    24576 /* records in librdkafka's queue */
#define HURRY_EVERY_MS 10
#define HURRY_WAIT_MS  200

struct source {
    /* set at creation */
    const struct config *config;
    rd_kafka_t *consumer;
    rd_kafka_queue_t *queue;
    void (*revoking)(void *arg);
    void *revoking_arg;
    bool must_hurry; /* this librdkafka knows no fetch.queue.backoff.ms, see source_hurry */

    /* pipeline's thread only */
    struct source_partition *partitions;
    size_t partitions_count;
    struct source_partition *last; /* of the last record: records come in runs */
    uint64_t assignment;
    bool is_reading;
    int64_t next_hurry_ms;
    bool was_full;
    rd_kafka_message_t *message; /* handed out last */
    struct event_header headers[HEADERS_MAX];
};

static void free_partitions(struct source *source)
{
    for (size_t i = 0; i < source->partitions_count; i++) {
        free(source->partitions[i].topic);
        free(source->partitions[i].field);
    }
    free(source->partitions);
    source->partitions = NULL;
    source->partitions_count = 0;
    source->last = NULL;
}

static void log_kafka(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    enum log_level ours = level <= 3 ? LOG_WARNING : level <= 5 ? LOG_INFO : LOG_DEBUG;
    log_limited(ours, "librdkafka", log_text("facility", facility), log_text("text", text));
}

/* Broker trouble is transient: librdkafka goes on by itself. */
static void on_error(rd_kafka_t *rk, int error, const char *reason, void *opaque)
{
    (void)rk;
    (void)opaque;
    log_limited(LOG_WARNING, "kafka is in trouble", log_text("error", rd_kafka_err2name(error)),
                log_text("reason", reason));
}

static char *field_name(const char *group, const char *topic, int32_t id)
{
    size_t size = strlen(group) + strlen(topic) + 16;
    char *field = malloc(size);
    if (field)
        snprintf(field, size, "%s/%s/%d", group, topic, (int)id);
    return field;
}

static void take_partitions(struct source *source, const rd_kafka_topic_partition_list_t *list)
{
    free_partitions(source);
    source->partitions = calloc((size_t)list->cnt + 1, sizeof *source->partitions);
    if (!source->partitions)
        goto no_memory;
    for (int i = 0; i < list->cnt; i++) {
        struct source_partition *partition = &source->partitions[i];
        partition->topic = strdup(list->elems[i].topic);
        partition->id = list->elems[i].partition;
        partition->field = field_name(source->config->kafka.group, list->elems[i].topic, partition->id);
        partition->next = partition->stored = OFFSET_UNKNOWN;
        source->partitions_count = (size_t)i + 1;
        if (!partition->topic || !partition->field)
            goto no_memory;
        partition->rules = rules_topic(source->config->rules, partition->topic);
    }
    return;
no_memory:
    log_line(LOG_ERROR, "out of memory", log_text("doing", "assignment"));
    abort();
}

static void assign_none(struct source *source)
{
    rd_kafka_topic_partition_list_t *none = rd_kafka_topic_partition_list_new(0);
    rd_kafka_resp_err_t error = rd_kafka_assign(source->consumer, none);
    if (error)
        log_line(LOG_WARNING, "kafka does not take the assignment",
                 log_text("error", rd_kafka_err2str(error)));
    rd_kafka_topic_partition_list_destroy(none);
    source->is_reading = false;
}

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t what, rd_kafka_topic_partition_list_t *list,
                         void *opaque)
{
    struct source *source = opaque;
    if (what == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        take_partitions(source, list);
        assign_none(source);
        log_line(LOG_INFO, "partitions assigned", log_number("count", list->cnt));
    } else {
        if (source->revoking && !rd_kafka_assignment_lost(rk))
            source->revoking(source->revoking_arg);
        log_line(LOG_INFO, "partitions revoked", log_number("count", list->cnt));
        rd_kafka_assign(rk, NULL);
        free_partitions(source);
        source->is_reading = false;
    }
    source->assignment++;
}

static bool set(rd_kafka_conf_t *conf, const char *name, const char *value, char *error, size_t error_size)
{
    return rd_kafka_conf_set(conf, name, value, error, error_size) == RD_KAFKA_CONF_OK;
}

/* Ours first, so that users can change what config.c lets them. Memory is bounded by the two queue limits;
 * the eager assignors are used, since cooperative ones are broken before librdkafka 2.6.1. */
static rd_kafka_conf_t *make_conf(const struct config *config, char *error, size_t error_size)
{
    static const char *const defaults[][2] = {
        {"client.id", "evictd"},
        {"enable.auto.commit", "true"},
        {"auto.commit.interval.ms", "1000"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        {"session.timeout.ms", "6000"},
        {"heartbeat.interval.ms", "1500"},
        {"partition.assignment.strategy", "range,roundrobin"},
        {"topic.metadata.refresh.interval.ms", "30000"},
        {"queued.min.messages", "100000"},
        {"queued.max.messages.kbytes", "8192"},
        {"fetch.message.max.bytes", "1048576"},
        {"fetch.wait.max.ms", "100"},
        {"fetch.error.backoff.ms", "100"},
        {"reconnect.backoff.ms", "50"},
        {"reconnect.backoff.max.ms", "1000"},
        {"socket.keepalive.enable", "true"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    bool is_good = set(conf, "bootstrap.servers", config->kafka.brokers, error, error_size) &&
                   set(conf, "group.id", config->kafka.group, error, error_size);
    for (size_t i = 0; is_good && i < sizeof defaults / sizeof defaults[0]; i++)
        is_good = set(conf, defaults[i][0], defaults[i][1], error, error_size);
    for (size_t i = 0; is_good && i < config->kafka.properties_count; i++) {
        const char *property = config->kafka.properties[i], *equals = strchr(property, '=');
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)(equals - property), property);
        is_good = set(conf, name, equals + 1, error, error_size);
    }
    if (!is_good) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_conf_set_log_cb(conf, log_kafka);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    return conf;
}

static int subscribe(struct source *source, char *error, size_t error_size)
{
    size_t count = rules_topics_count(source->config->rules);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new((int)count);
    for (size_t i = 0; i < count; i++)
        rd_kafka_topic_partition_list_add(topics, rules_topics_get(source->config->rules, i),
                                          RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t result = rd_kafka_subscribe(source->consumer, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    if (result)
        snprintf(error, error_size, "subscribe: %s", rd_kafka_err2str(result));
    return result ? -1 : 0;
}

int source_open(const struct config *config, struct source **ret_source, char *error, size_t error_size)
{
    struct source *source = calloc(1, sizeof *source);
    if (!source) {
        snprintf(error, error_size, "out of memory");
        return -1;
    }
    source->config = config;
    rd_kafka_conf_t *conf = make_conf(config, error, error_size);
    if (!conf)
        goto fail;
    rd_kafka_conf_set_opaque(conf, source);
    source->must_hurry = !set(conf, "fetch.queue.backoff.ms", "2", error, error_size);
    source->consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, error_size);
    if (!source->consumer) {
        rd_kafka_conf_destroy(conf);
        goto fail;
    }
    rd_kafka_poll_set_consumer(source->consumer);
    source->queue = rd_kafka_queue_get_consumer(source->consumer);
    if (subscribe(source, error, error_size) < 0)
        goto fail;
    *ret_source = source;
    return 0;
fail:
    source_close(&source, 0);
    return -1;
}

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void drop_message(struct source *source)
{
    if (source->message)
        rd_kafka_message_destroy(source->message);
    source->message = NULL;
}

/* While the consumer closes, the revocation comes as an event, and perhaps some records that nobody wants any
 * more. */
static void serve_closing(struct source *source, rd_kafka_event_t *event)
{
    if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
        rd_kafka_assign(source->consumer, NULL);
    if (event)
        rd_kafka_event_destroy(event);
}

/* A last commit and a goodbye, so that the others take over at once. */
static void leave_group(struct source *source, int timeout_ms)
{
    int64_t deadline = monotonic_ms() + timeout_ms;
    source->revoking = NULL;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(source->consumer);
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(source->consumer, queue);
    while (!error && !rd_kafka_consumer_closed(source->consumer) && monotonic_ms() < deadline)
        serve_closing(source, rd_kafka_queue_poll(queue, 50));
    if (!error && !rd_kafka_consumer_closed(source->consumer))
        log_line(LOG_WARNING, "left the group without a goodbye: the broker did not answer in time",
                 log_text("effect", "its partitions stand still for session.timeout.ms"));
    if (error)
        rd_kafka_error_destroy(error);
    rd_kafka_queue_destroy(queue);
}

void source_close(struct source **source, int timeout_ms)
{
    if (!source || !*source)
        return;
    struct source *s = *source;
    drop_message(s);
    if (s->consumer) {
        leave_group(s, timeout_ms);
        rd_kafka_queue_destroy(s->queue);
        rd_kafka_destroy_flags(s->consumer, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    }
    free_partitions(s);
    free(s);
    *source = NULL;
}

void source_on_revoke(struct source *source, void (*revoking)(void *arg), void *arg)
{
    source->revoking = revoking;
    source->revoking_arg = arg;
}

void source_wake(struct source *source)
{
    rd_kafka_queue_yield(source->queue);
}

static struct source_partition *find_partition(struct source *source, const char *topic, int32_t id)
{
    struct source_partition *last = source->last;
    if (last && last->id == id && strcmp(last->topic, topic) == 0)
        return last;
    for (size_t i = 0; i < source->partitions_count; i++) {
        struct source_partition *partition = &source->partitions[i];
        if (partition->id == id && strcmp(partition->topic, topic) == 0)
            return source->last = partition;
    }
    return NULL;
}

static void fill_headers(struct source *source, struct event_source *event)
{
    rd_kafka_headers_t *headers;
    event->headers = source->headers;
    event->headers_count = 0;
    if (rd_kafka_message_headers(source->message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    while (event->headers_count < HEADERS_MAX) {
        struct event_header *header = &source->headers[event->headers_count];
        if (rd_kafka_header_get_all(headers, event->headers_count, &header->name, &header->value,
                                    &header->value_size))
            break;
        event->headers_count++;
    }
}

/* The events to read next are gone (retention, topic made anew), or a partition cannot be read. */
static void partition_error(struct source *source, const rd_kafka_message_t *message)
{
    const char *topic = rd_kafka_topic_name(message->rkt);
    struct source_partition *partition = find_partition(source, topic, message->partition);
    if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET) {
        if (partition && source->is_reading) {
            partition->has_gap = true;
            log_line(LOG_WARNING, "retention gap: kafka no longer holds the events to read next",
                     log_text("topic", topic), log_number("partition", message->partition),
                     log_number("offset", partition->next));
        }
        return;
    }
    log_limited(LOG_WARNING, "kafka cannot be read", log_text("topic", topic),
                log_number("partition", message->partition),
                log_text("error", rd_kafka_err2name(message->err)),
                log_text("reason", rd_kafka_message_errstr(message)));
}

static enum source_poll serve_error(struct source *source, const rd_kafka_message_t *message)
{
    if (message->err == RD_KAFKA_RESP_ERR__FATAL || rd_kafka_fatal_error(source->consumer, NULL, 0)) {
        log_line(LOG_ERROR, "librdkafka gave up", log_text("reason", rd_kafka_message_errstr(message)));
        return SOURCE_FATAL;
    }
    if (message->rkt)
        partition_error(source, message);
    else
        log_limited(LOG_WARNING, "kafka is in trouble", log_text("error", rd_kafka_err2name(message->err)),
                    log_text("reason", rd_kafka_message_errstr(message)));
    return SOURCE_NOTHING;
}

enum source_poll source_poll(struct source *source, int timeout_ms, struct event_source *ret_event,
                             struct source_partition **ret_partition)
{
    drop_message(source);
    rd_kafka_message_t *message = source->message = rd_kafka_consumer_poll(source->consumer, timeout_ms);
    if (!message)
        return SOURCE_NOTHING;
    if (message->err)
        return serve_error(source, message);
    struct source_partition *partition =
        find_partition(source, rd_kafka_topic_name(message->rkt), message->partition);
    if (!partition || !source->is_reading || message->offset < partition->next)
        return SOURCE_NOTHING; /* of an assignment that is over */
    ret_event->topic = partition->topic;
    ret_event->partition = message->partition;
    ret_event->offset = message->offset;
    ret_event->key = message->key;
    ret_event->key_size = message->key_len;
    ret_event->value = message->payload;
    ret_event->value_size = message->len;
    fill_headers(source, ret_event);
    *ret_partition = partition;
    return SOURCE_EVENT;
}

uint64_t source_assignment(const struct source *source)
{
    return source->assignment;
}

struct source_partition *source_partitions(struct source *source, size_t *ret_count)
{
    *ret_count = source->partitions_count;
    return source->partitions;
}

bool source_is_reading(const struct source *source)
{
    return source->is_reading;
}

bool source_has_gap(const struct source *source)
{
    for (size_t i = 0; i < source->partitions_count; i++) {
        if (source->partitions[i].has_gap)
            return true;
    }
    return false;
}

static rd_kafka_topic_partition_list_t *to_list(const struct source *source)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)source->partitions_count);
    for (size_t i = 0; i < source->partitions_count; i++)
        rd_kafka_topic_partition_list_add(list, source->partitions[i].topic, source->partitions[i].id)
            ->offset = source->partitions[i].next;
    return list;
}

int source_committed(struct source *source, int64_t *offsets, int timeout_ms)
{
    rd_kafka_topic_partition_list_t *list = to_list(source);
    rd_kafka_resp_err_t error = rd_kafka_committed(source->consumer, list, timeout_ms);
    for (int i = 0; !error && i < list->cnt; i++) {
        error = list->elems[i].err;
        offsets[i] = list->elems[i].offset >= 0 ? list->elems[i].offset : OFFSET_UNKNOWN;
    }
    rd_kafka_topic_partition_list_destroy(list);
    if (error)
        log_limited(LOG_WARNING, "kafka does not tell the committed offsets",
                    log_text("error", rd_kafka_err2str(error)));
    return error ? -1 : 0;
}

int source_bounds(struct source *source, const struct source_partition *partition, int64_t *ret_first,
                  int64_t *ret_end, int timeout_ms)
{
    rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(
        source->consumer, partition->topic, partition->id, ret_first, ret_end, timeout_ms);
    if (error)
        log_limited(LOG_WARNING, "kafka does not tell the offsets of a partition",
                    log_text("topic", partition->topic), log_number("partition", partition->id),
                    log_text("error", rd_kafka_err2str(error)));
    return error ? -1 : 0;
}

int source_read(struct source *source)
{
    rd_kafka_topic_partition_list_t *list = to_list(source);
    rd_kafka_resp_err_t error = rd_kafka_assign(source->consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (error)
        log_limited(LOG_WARNING, "kafka does not take the assignment",
                    log_text("error", rd_kafka_err2str(error)));
    source->is_reading = !error;
    /* What was acknowledged while nothing was assigned can be stored only now. */
    for (size_t i = 0; !error && i < source->partitions_count; i++) {
        if (source->partitions[i].stored != OFFSET_UNKNOWN)
            source_store(source, &source->partitions[i], source->partitions[i].stored);
    }
    return error ? -1 : 0;
}

void source_rest(struct source *source)
{
    drop_message(source);
    if (source->is_reading)
        assign_none(source);
}

void source_store(struct source *source, struct source_partition *partition, int64_t next)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, partition->topic, partition->id)->offset = next;
    partition->stored = next;
    /* Fails when the partition is not assigned any more: its new owner reads the events again, which is
     * harmless. */
    (void)rd_kafka_offsets_store(source->consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
}

int64_t source_lag(struct source *source)
{
    int64_t lag = 0;
    for (size_t i = 0; i < source->partitions_count; i++) {
        const struct source_partition *partition = &source->partitions[i];
        int64_t low, high;
        if (rd_kafka_get_watermark_offsets(source->consumer, partition->topic, partition->id, &low, &high) ||
            high < 0)
            return -1;
        int64_t from = partition->stored != OFFSET_UNKNOWN ? partition->stored : partition->next;
        if (from >= 0 && high > from)
            lag += high - from;
    }
    return source->partitions_count ? lag : -1;
}

/* Are there records that librdkafka has not fetched yet, as far as it knows? */
static bool has_more_to_fetch(struct source *source, int64_t queued)
{
    int64_t unread = 0;
    for (size_t i = 0; i < source->partitions_count; i++) {
        const struct source_partition *partition = &source->partitions[i];
        int64_t low, high;
        if (!rd_kafka_get_watermark_offsets(source->consumer, partition->topic, partition->id, &low, &high) &&
            partition->next >= 0 && high > partition->next)
            unread += high - partition->next;
    }
    return unread > queued;
}

/* Once its queue is full, librdkafka before 2.2 looks only once a second whether it has room again: a backlog
 * would be read at one queue a second. Any request to the brokers makes it look, so a cheap one is sent. */
void source_hurry(struct source *source)
{
    int64_t now, queued = (int64_t)rd_kafka_queue_length(source->queue);
    if (!source->must_hurry || !source->is_reading)
        return;
    if (queued >= HURRY_BELOW) {
        source->was_full = true;
        return;
    }
    now = monotonic_ms();
    if (now < source->next_hurry_ms || (!source->was_full && !has_more_to_fetch(source, queued)))
        return;
    source->next_hurry_ms = now + HURRY_EVERY_MS;
    source->was_full = false;
    rd_kafka_topic_partition_list_t *list = to_list(source);
    for (int i = 0; i < list->cnt; i++)
        list->elems[i].offset = RD_KAFKA_OFFSET_END;
    (void)rd_kafka_offsets_for_times(source->consumer, list, HURRY_WAIT_MS); /* the answer does not matter */
    rd_kafka_topic_partition_list_destroy(list);
}
