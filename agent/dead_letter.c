#include "dead_letter.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "text.h"

#define RETRY_WAIT_MS 500

struct dead_letter {
    const struct config *config;
    rd_kafka_t *producer;
    size_t on_their_way;
};

/* On failure the same record goes out again: rd_kafka_producev copies what the report still holds. */
static void on_delivery(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque)
{
    struct dead_letter *letters = opaque;
    struct letters *count = message->_private;
    rd_kafka_headers_t *headers = NULL;
    if (!message->err) {
        letters->on_their_way--;
        count->pending--;
        return;
    }
    log_limited(LOG_WARNING, "a dead letter was not taken; it will be tried again",
                log_text("topic", rd_kafka_topic_name(message->rkt)),
                log_text("error", rd_kafka_err2name(message->err)));
    rd_kafka_message_detach_headers((rd_kafka_message_t *)(uintptr_t)message, &headers);
    rd_kafka_resp_err_t error = rd_kafka_producev(
        producer, RD_KAFKA_V_TOPIC(rd_kafka_topic_name(message->rkt)),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_VALUE(message->payload, message->len),
        RD_KAFKA_V_KEY(message->key, message->key_len), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE(count),
        RD_KAFKA_V_END);
    if (error) { /* its batch's offsets are then never stored: its events are read again after a restart or
                    rebalance */
        log_line(LOG_ERROR, "a dead letter cannot be sent", log_text("error", rd_kafka_err2str(error)));
        rd_kafka_headers_destroy(headers);
    }
}

/* The consumer's connection settings count for the producer too; the rest of them it does not know. */
static int set_properties(rd_kafka_conf_t *conf, const struct config *config, char *error, size_t error_size)
{
    static const char *const shared[] = {"security.",       "sasl.",       "ssl.",       "socket.",
                                         "broker.address.", "client.dns.", "reconnect.", "enable.ssl",
                                         "metadata.",       "debug"};
    for (size_t i = 0; i < config->kafka.properties_count; i++) {
        const char *property = config->kafka.properties[i], *equals = strchr(property, '=');
        for (size_t j = 0; j < sizeof shared / sizeof shared[0]; j++) {
            char name[256];
            snprintf(name, sizeof name, "%.*s", (int)(equals - property), property);
            if (strncmp(property, shared[j], strlen(shared[j])) == 0 &&
                rd_kafka_conf_set(conf, name, equals + 1, error, error_size) != RD_KAFKA_CONF_OK)
                return -1;
        }
    }
    return 0;
}

int dead_letter_open(const struct config *config, struct dead_letter **ret_letters, char *error,
                     size_t error_size)
{
    struct dead_letter *letters = calloc(1, sizeof *letters);
    if (!letters) {
        snprintf(error, error_size, "out of memory");
        return -1;
    }
    letters->config = config;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_opaque(conf, letters);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    if (rd_kafka_conf_set(conf, "bootstrap.servers", config->kafka.brokers, error, error_size) ||
        rd_kafka_conf_set(conf, "client.id", "evictd", error, error_size) ||
        rd_kafka_conf_set(conf, "enable.idempotence", "true", error, error_size) ||
        rd_kafka_conf_set(conf, "linger.ms", "5", error, error_size) ||
        rd_kafka_conf_set(conf, "message.max.bytes", "67108864", error, error_size) ||
        rd_kafka_conf_set(conf, "message.timeout.ms", "60000", error, error_size) ||
        rd_kafka_conf_set(conf, "log_level", "2", error, error_size) ||
        set_properties(conf, config, error, error_size) < 0) {
        rd_kafka_conf_destroy(conf);
        free(letters);
        return -1;
    }
    letters->producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, error_size);
    if (!letters->producer) {
        rd_kafka_conf_destroy(conf);
        free(letters);
        return -1;
    }
    *ret_letters = letters;
    return 0;
}

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void dead_letter_close(struct dead_letter **letters, int timeout_ms)
{
    if (!letters || !*letters)
        return;
    int64_t deadline = monotonic_ms() + timeout_ms;
    while ((*letters)->on_their_way && monotonic_ms() < deadline)
        rd_kafka_poll((*letters)->producer, 50);
    rd_kafka_purge((*letters)->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_destroy((*letters)->producer);
    free(*letters);
    *letters = NULL;
}

static void add_header(rd_kafka_headers_t *headers, const char *name, const char *text)
{
    rd_kafka_header_add(headers, name, -1, text, -1);
}

static void add_number(rd_kafka_headers_t *headers, const char *name, int64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)number);
    add_header(headers, name, text);
}

static rd_kafka_headers_t *make_headers(const struct event_source *event, const struct event_error *error)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(event->headers_count + 6);
    for (size_t i = 0; i < event->headers_count; i++)
        rd_kafka_header_add(headers, event->headers[i].name, -1, event->headers[i].value,
                            event->headers[i].value ? (ssize_t)event->headers[i].value_size : 0);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    add_header(headers, "evictd.error",
               utf8_is_valid(error->text, strlen(error->text)) ? error->text
                                                               : "an error whose text is not UTF-8");
    if (error->rule)
        add_header(headers, "evictd.rule", error->rule);
    add_header(headers, "evictd.topic", event->topic);
    add_number(headers, "evictd.partition", event->partition);
    add_number(headers, "evictd.offset", event->offset);
    add_number(headers, "evictd.timestamp", (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    return headers;
}

int dead_letter_send(struct dead_letter *letters, struct letters *count, const struct event_source *event,
                     const struct event_error *error)
{
    while (letters->on_their_way >= LETTERS_MAX)
        rd_kafka_poll(letters->producer, 100);
    rd_kafka_headers_t *headers = make_headers(event, error);
    rd_kafka_resp_err_t result;
    do {
        /* producev takes the topic's name by value and, on success, the headers. */
        result = rd_kafka_producev(letters->producer, RD_KAFKA_V_TOPIC(letters->config->dead_letter.topic),
                                   RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                   RD_KAFKA_V_VALUE((void *)(uintptr_t)event->value, event->value_size),
                                   RD_KAFKA_V_KEY(event->key, event->key_size), RD_KAFKA_V_HEADERS(headers),
                                   RD_KAFKA_V_OPAQUE(count), RD_KAFKA_V_END);
        if (result == RD_KAFKA_RESP_ERR__QUEUE_FULL)
            rd_kafka_poll(letters->producer, RETRY_WAIT_MS);
    } while (result == RD_KAFKA_RESP_ERR__QUEUE_FULL);
    if (result) {
        rd_kafka_headers_destroy(headers);
        log_line(LOG_ERROR, "a dead letter cannot be sent", log_text("topic", event->topic),
                 log_number("partition", event->partition), log_number("offset", event->offset),
                 log_text("error", rd_kafka_err2str(result)));
        return -1;
    }
    letters->on_their_way++;
    count->pending++;
    return 0;
}

void dead_letter_serve(struct dead_letter *letters, int timeout_ms)
{
    if (letters->on_their_way)
        rd_kafka_poll(letters->producer, timeout_ms);
}
