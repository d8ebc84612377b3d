/* kafka_broker: one real Kafka broker of the test's own (tests/support/kafka), and the calls a test makes to
 * it. */
#pragma once

#include <librdkafka/rdkafka.h>
#include <stddef.h>
#include <stdint.h>

#include "proc.h"
#include "tmp.h"

#define KAFKA_ANY_PARTITION (-1) /* the key decides */

struct kafka_broker {
    struct proc proc; /* proc_signal(&broker.proc, SIGSTOP): a broker that hangs but keeps its sockets */
    char dir[TMP_PATH_SIZE];
    char bootstrap[32]; /* 127.0.0.1:PORT */
    unsigned failed_deliveries;
    rd_kafka_t *client; /* producer and admin; opened when first needed */
    rd_kafka_t *reader; /* of kafka_read() */
};

/** Starts a broker and waits until it serves (about 2 s). It keeps everything in `dir`, which is made if it
 * is not there; on the folder of an earlier broker it continues with that one's data and port.
 * `dir`/extra.properties may hold more settings. */
void kafka_start(struct kafka_broker *broker, const char *dir);

/** A clean stop. Fine twice, and after kafka_kill(). kafka_start() on the same folder may follow, as after a
 * kill. */
void kafka_stop(struct kafka_broker *broker);

/** SIGKILL: a crash. What was not flushed is dropped, here as in kafka_stop(). */
void kafka_kill(struct kafka_broker *broker);

/** Makes a topic and waits until every partition is served. */
void kafka_create_topic(struct kafka_broker *broker, const char *topic, int partitions);

/** Flushes, deletes a topic, waits until the broker no longer tells of it. */
void kafka_delete_topic(struct kafka_broker *broker, const char *topic);

/** Drops all before `offset` (-1: all there is): a retention gap. */
void kafka_delete_records(struct kafka_broker *broker, const char *topic, int partition, int64_t offset);

/** The first offset kept and the one the next message gets. */
void kafka_offsets(struct kafka_broker *broker, const char *topic, int partition, int64_t *ret_first,
                   int64_t *ret_next);

/** @return the offset the group committed, or -1 */
int64_t kafka_committed(struct kafka_broker *broker, const char *group, const char *topic, int partition);

/** Queues one message; kafka_flush() sees to its delivery.
 * @param key NULL: none; value NULL: a tombstone
 * @param ... its headers: name, text, name, text …, NULL */
void kafka_produce(struct kafka_broker *broker, const char *topic, int partition, const void *key,
                   size_t key_size, const void *value, size_t value_size, ...) __attribute__((sentinel));

/** The same for text, in the partition of its key, without headers. */
void kafka_produce_text(struct kafka_broker *broker, const char *topic, const char *key, const char *value);

/** Waits until all that was queued is delivered. */
void kafka_flush(struct kafka_broker *broker);

/** Reads the message at `offset`. @return it, to be freed with rd_kafka_message_destroy() before the broker
 * stops; NULL: none there until the deadline */
rd_kafka_message_t *kafka_read(struct kafka_broker *broker, const char *topic, int partition, int64_t offset,
                               int64_t deadline_ms) __attribute__((warn_unused_result));

/** Any command of tests/support/kafka that talks to a broker: kafka_admin(&broker, "add-partitions", "t",
 * "8", NULL). A JVM each, about 1 s. @return what it printed; the caller frees it */
char *kafka_admin(struct kafka_broker *broker, ...) __attribute__((sentinel));
