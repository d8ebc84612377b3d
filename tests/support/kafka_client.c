/* kafka_client: topics, offsets, messages: what a test says to its broker, through librdkafka (a call takes
 * some 10 ms, where kafka_admin() starts a JVM). */
#include "kafka_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wait.h"

#define CALL_DEADLINE_MS  15000
#define FLUSH_DEADLINE_MS 30000
#define POLL_MS           50
#define ERROR_SIZE        512

static void on_delivery(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    struct kafka_broker *broker = opaque;

    (void)client;
    if (message->err) {
        print_error("not delivered: %s\n", rd_kafka_err2str(message->err));
        broker->failed_deliveries++;
    }
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char error[ERROR_SIZE];

    if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) != RD_KAFKA_CONF_OK)
        fail_msg("librdkafka: %s", error);
}

static rd_kafka_t *open_client(struct kafka_broker *broker, rd_kafka_type_t type)
{
    char error[ERROR_SIZE];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    set(conf, "bootstrap.servers", broker->bootstrap);
    set(conf, "reconnect.backoff.max.ms", "200");
    set(conf, "log_level", "2"); /* a killed broker is no news here */
    rd_kafka_conf_set_opaque(conf, broker);
    if (type == RD_KAFKA_PRODUCER) {
        set(conf, "linger.ms", "1");
        set(conf, "partitioner", "murmur2_random"); /* as Java's */
        set(conf, "enable.idempotence", "true");    /* in order, once */
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    } else {
        set(conf, "group.id", "test-reader"); /* never joined */
        set(conf, "enable.auto.commit", "false");
        set(conf, "fetch.wait.max.ms", "50");
    }
    rd_kafka_t *client = rd_kafka_new(type, conf, error, sizeof(error));
    if (!client)
        fail_msg("librdkafka: %s", error);
    return client;
}

static rd_kafka_t *client_of(struct kafka_broker *broker)
{
    if (!broker->client)
        broker->client = open_client(broker, RD_KAFKA_PRODUCER);
    return broker->client;
}

static void check(const char *what, const char *on, rd_kafka_resp_err_t error)
{
    if (error)
        fail_msg("%s %s: %s", what, on, rd_kafka_err2str(error));
}

void kafka_client_close(struct kafka_broker *broker)
{
    if (broker->client) {
        rd_kafka_purge(broker->client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_destroy(broker->client);
    }
    if (broker->reader)
        rd_kafka_destroy(broker->reader);
    broker->client = broker->reader = NULL;
    broker->failed_deliveries = 0;
}

/* The result of an admin call; takes over the queue it was asked on. The caller destroys the event. */
static rd_kafka_event_t *admin_result(rd_kafka_queue_t *queue, const char *what, const char *on)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, CALL_DEADLINE_MS);

    rd_kafka_queue_destroy(queue);
    if (!event)
        fail_msg("%s %s: no answer after %d ms", what, on, CALL_DEADLINE_MS);
    check(what, on, rd_kafka_event_error(event));
    return event;
}

/* How many partitions the broker has a leader for; 0: it does not know the topic. */
static int partitions_led(struct kafka_broker *broker, const char *topic)
{
    const rd_kafka_metadata_t *all;
    int led = 0;

    check("metadata of", topic, rd_kafka_metadata(client_of(broker), 1, NULL, &all, CALL_DEADLINE_MS));
    for (int i = 0; i < all->topic_cnt; i++) {
        const rd_kafka_metadata_topic_t *one = &all->topics[i];
        if (strcmp(one->topic, topic) != 0)
            continue;
        for (int p = 0; p < one->partition_cnt; p++)
            led += one->partitions[p].leader >= 0;
    }
    rd_kafka_metadata_destroy(all);
    return led;
}

void kafka_offsets(struct kafka_broker *broker, const char *topic, int partition, int64_t *ret_first,
                   int64_t *ret_next)
{
    rd_kafka_resp_err_t error;

    /* A new or restarted broker names itself the leader a little before it acts as one. */
    WAIT_FOR(CALL_DEADLINE_MS,
             !(error = rd_kafka_query_watermark_offsets(client_of(broker), topic, partition, ret_first,
                                                        ret_next, CALL_DEADLINE_MS)),
             "offsets of %s: %s", topic, rd_kafka_err2str(error));
}

void kafka_create_topic(struct kafka_broker *broker, const char *topic, int partitions)
{
    rd_kafka_t *client = client_of(broker);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_NewTopic_t *wanted = rd_kafka_NewTopic_new(topic, partitions, 1, NULL, 0);
    size_t count;
    int64_t first, next;

    rd_kafka_CreateTopics(client, &wanted, 1, NULL, queue);
    rd_kafka_NewTopic_destroy(wanted);
    rd_kafka_event_t *event = admin_result(queue, "create topic", topic);
    const rd_kafka_topic_result_t **result =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    check("create topic", topic, rd_kafka_topic_result_error(result[0]));
    rd_kafka_event_destroy(event);
    WAIT_FOR(CALL_DEADLINE_MS, partitions_led(broker, topic) == partitions, "%s: %d partitions have a leader",
             topic, partitions_led(broker, topic));
    for (int p = 0; p < partitions; p++)
        kafka_offsets(broker, topic, p, &first, &next);
}

void kafka_delete_topic(struct kafka_broker *broker, const char *topic)
{
    kafka_flush(broker);
    rd_kafka_t *client = client_of(broker);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_DeleteTopic_t *unwanted = rd_kafka_DeleteTopic_new(topic);
    size_t count;

    rd_kafka_DeleteTopics(client, &unwanted, 1, NULL, queue);
    rd_kafka_DeleteTopic_destroy(unwanted);
    rd_kafka_event_t *event = admin_result(queue, "delete topic", topic);
    const rd_kafka_topic_result_t **result =
        rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
    check("delete topic", topic, rd_kafka_topic_result_error(result[0]));
    rd_kafka_event_destroy(event);
    WAIT_FOR(CALL_DEADLINE_MS, partitions_led(broker, topic) == 0, "%s is still there", topic);
    kafka_client_close(broker); /* what it knows of the topic's leaders and sequences is of the deleted one */
}

void kafka_delete_records(struct kafka_broker *broker, const char *topic, int partition, int64_t offset)
{
    rd_kafka_t *client = client_of(broker);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_topic_partition_list_t *before = rd_kafka_topic_partition_list_new(1);

    rd_kafka_topic_partition_list_add(before, topic, partition)->offset =
        offset < 0 ? RD_KAFKA_OFFSET_END : offset;
    rd_kafka_DeleteRecords_t *wanted = rd_kafka_DeleteRecords_new(before);
    rd_kafka_topic_partition_list_destroy(before);
    rd_kafka_DeleteRecords(client, &wanted, 1, NULL, queue);
    rd_kafka_DeleteRecords_destroy(wanted);
    rd_kafka_event_t *event = admin_result(queue, "delete records of", topic);
    const rd_kafka_topic_partition_list_t *done =
        rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
    check("delete records of", topic, done->elems[0].err);
    rd_kafka_event_destroy(event);
}

int64_t kafka_committed(struct kafka_broker *broker, const char *group, const char *topic, int partition)
{
    rd_kafka_t *client = client_of(broker);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    int64_t offset;
    size_t count;

    rd_kafka_topic_partition_list_add(list, topic, partition);
    rd_kafka_ListConsumerGroupOffsets_t *wanted = rd_kafka_ListConsumerGroupOffsets_new(group, list);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_ListConsumerGroupOffsets(client, &wanted, 1, NULL, queue);
    rd_kafka_ListConsumerGroupOffsets_destroy(wanted);
    rd_kafka_event_t *event = admin_result(queue, "committed offsets of", group);
    const rd_kafka_group_result_t **result = rd_kafka_ListConsumerGroupOffsets_result_groups(
        rd_kafka_event_ListConsumerGroupOffsets_result(event), &count);
    const rd_kafka_error_t *error = rd_kafka_group_result_error(result[0]);
    if (error)
        fail_msg("committed offsets of %s: %s", group, rd_kafka_error_string(error));
    offset = rd_kafka_group_result_partitions(result[0])->elems[0].offset;
    rd_kafka_event_destroy(event);
    return offset < 0 ? -1 : offset;
}

static void produce(struct kafka_broker *broker, const char *topic, int partition, const void *key,
                    size_t key_size, const void *value, size_t value_size, rd_kafka_headers_t *headers)
{
    rd_kafka_t *client = client_of(broker);
    rd_kafka_resp_err_t error;

    do {
        error = rd_kafka_producev(client, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                                  RD_KAFKA_V_KEY(key, key_size), RD_KAFKA_V_VALUE((void *)value, value_size),
                                  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(headers),
                                  RD_KAFKA_V_END);
        rd_kafka_poll(client, error == RD_KAFKA_RESP_ERR__QUEUE_FULL ? POLL_MS : 0);
    } while (error == RD_KAFKA_RESP_ERR__QUEUE_FULL);
    check("produce to", topic, error);
}

void kafka_produce(struct kafka_broker *broker, const char *topic, int partition, const void *key,
                   size_t key_size, const void *value, size_t value_size, ...)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(4);
    va_list args;

    va_start(args, value_size);
    for (const char *name = va_arg(args, const char *); name; name = va_arg(args, const char *))
        rd_kafka_header_add(headers, name, -1, va_arg(args, const char *), -1);
    va_end(args);
    produce(broker, topic, partition, key, key_size, value, value_size, headers);
}

void kafka_produce_text(struct kafka_broker *broker, const char *topic, const char *key, const char *value)
{
    produce(broker, topic, KAFKA_ANY_PARTITION, key, key ? strlen(key) : 0, value, value ? strlen(value) : 0,
            rd_kafka_headers_new(0));
}

void kafka_flush(struct kafka_broker *broker)
{
    check("flush", "the producer", rd_kafka_flush(client_of(broker), FLUSH_DEADLINE_MS));
    if (broker->failed_deliveries > 0)
        fail_msg("%u messages were not delivered", broker->failed_deliveries);
}

rd_kafka_message_t *kafka_read(struct kafka_broker *broker, const char *topic, int partition, int64_t offset,
                               int64_t deadline_ms)
{
    int64_t end_ms = wait_now_ms() + deadline_ms;
    rd_kafka_topic_partition_list_t *from = rd_kafka_topic_partition_list_new(1);
    rd_kafka_message_t *message = NULL;

    if (!broker->reader)
        broker->reader = open_client(broker, RD_KAFKA_CONSUMER);
    rd_kafka_topic_partition_list_add(from, topic, partition)->offset = offset;
    check("assign", topic, rd_kafka_assign(broker->reader, from));
    rd_kafka_topic_partition_list_destroy(from);
    do {
        if (message)
            rd_kafka_message_destroy(message); /* an error that may pass, such as a topic not yet made */
        message = rd_kafka_consumer_poll(broker->reader, POLL_MS);
    } while ((!message || message->err) && wait_now_ms() < end_ms);
    rd_kafka_assign(broker->reader, NULL);
    if (message && message->err) {
        print_error("read %s: %s\n", topic, rd_kafka_message_errstr(message));
        rd_kafka_message_destroy(message);
        message = NULL;
    }
    return message;
}
