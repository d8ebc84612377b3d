#include "demo_broker.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTITIONS 4

struct broker {
    rd_kafka_t *owner; /* the mock cluster needs a client to belong to */
    rd_kafka_mock_cluster_t *cluster;
    rd_kafka_t *producer;
};

/* @param brokers NULL: none */
static rd_kafka_t *make_producer(const char *brokers, char *error, size_t error_size)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "log_level", "2", error, error_size) ||
        (brokers && rd_kafka_conf_set(conf, "bootstrap.servers", brokers, error, error_size))) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, error_size);
    if (!producer)
        rd_kafka_conf_destroy(conf);
    return producer;
}

int broker_start(const char *const topics[], size_t topics_count, struct broker **ret_broker, char *error,
                 size_t error_size)
{
    struct broker *broker = calloc(1, sizeof *broker);
    snprintf(error, error_size, "out of memory");
    if (!broker || !(broker->owner = make_producer(NULL, error, error_size)))
        goto fail;
    broker->cluster = rd_kafka_mock_cluster_new(broker->owner, 1);
    if (!broker->cluster) {
        snprintf(error, error_size, "librdkafka cannot start its mock cluster");
        goto fail;
    }
    for (size_t i = 0; i < topics_count; i++) {
        rd_kafka_resp_err_t status = rd_kafka_mock_topic_create(broker->cluster, topics[i], PARTITIONS, 1);
        if (status) {
            snprintf(error, error_size, "topic %s: %s", topics[i], rd_kafka_err2str(status));
            goto fail;
        }
    }
    broker->producer = make_producer(broker_address(broker), error, error_size);
    if (!broker->producer)
        goto fail;
    *ret_broker = broker;
    return 0;
fail:
    broker_stop(&broker);
    return -1;
}

void broker_stop(struct broker **broker)
{
    if (!broker || !*broker)
        return;
    if ((*broker)->producer) {
        rd_kafka_purge((*broker)->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_destroy((*broker)->producer);
    }
    if ((*broker)->cluster)
        rd_kafka_mock_cluster_destroy((*broker)->cluster);
    if ((*broker)->owner)
        rd_kafka_destroy((*broker)->owner);
    free(*broker);
    *broker = NULL;
}

const char *broker_address(const struct broker *broker)
{
    return rd_kafka_mock_cluster_bootstraps(broker->cluster);
}

int broker_send(struct broker *broker, const char *topic, const char *key, const char *value, char *error,
                size_t error_size)
{
    void *bytes = (void *)(uintptr_t)value; /* copied, not written to */
    rd_kafka_resp_err_t status = rd_kafka_producev(
        broker->producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_KEY(key, strlen(key)), RD_KAFKA_V_VALUE(bytes, strlen(value)), RD_KAFKA_V_END);
    rd_kafka_poll(broker->producer, 0);
    if (!status)
        return 0;
    snprintf(error, error_size, "an event cannot be produced: %s", rd_kafka_err2str(status));
    return -1;
}

int broker_flush(struct broker *broker, int timeout_ms)
{
    return rd_kafka_flush(broker->producer, timeout_ms) ? -1 : 0;
}
