/* demo_broker: the demo's Kafka, librdkafka's mock cluster within this process, and a producer. The demo's
 * main thread; the cluster has one of its own. */
#pragma once

#include <stddef.h>

struct broker;

/** Starts the cluster with these topics. @return 0, or -1 with a text in error */
int broker_start(const char *const topics[], size_t topics_count, struct broker **ret_broker, char *error,
                 size_t error_size) __attribute__((warn_unused_result));
/** Drops what was not delivered. */
void broker_stop(struct broker **broker);

/** "127.0.0.1:port" */
const char *broker_address(const struct broker *broker);

/** Hands an event over to be delivered. @return 0, or -1 with a text in error */
int broker_send(struct broker *broker, const char *topic, const char *key, const char *value, char *error,
                size_t error_size) __attribute__((warn_unused_result));
/** Waits until all is delivered. @return 0, or -1: not within the time */
int broker_flush(struct broker *broker, int timeout_ms) __attribute__((warn_unused_result));
