/* event: bytes from a topic -> one decoded event that rules can look into.
 * Pure: no I/O, no clock. One event_decoder per thread; an event is valid until the next decode. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json.h"

enum event_format { FORMAT_JSON, FORMAT_CLOUDEVENTS, FORMAT_RAW };

/* One name and value header of a Kafka record. Names are as sent; values may hold any byte. */
struct event_header {
    const char *name;
    const void *value;
    size_t value_size;
};

/* A record as it came from Kafka. Everything is borrowed from the caller. */
struct event_source {
    const char *topic;
    int32_t partition;
    int64_t offset;
    const void *key; /* NULL: the record has no key */
    size_t key_size;
    const void *value; /* NULL: a tombstone */
    size_t value_size;
    const struct event_header *headers;
    size_t headers_count;
};

struct event {
    const struct event_source *source;
    bool is_tombstone;
    bool has_document;              /* false for raw and for tombstones */
    struct json_document *document; /* what ${paths} look into; for cloudevents the whole envelope */
};

/* What can be wrong with one event (or with applying a rule to it): goes to the dead-letter topic with its
 * text. */
struct event_error {
    char text[256];
    const char *rule; /* name of the rule it happened in, or NULL */
};

#define EVENT_NO_MEMORY (-2) /* says nothing about the event: try again later */

/** Decodes one record in the given format. The document's memory is reused from call to call.
 * @return 0, or -1 with *ret_error filled (undecodable: not JSON, not UTF-8, nested too deep, too large, not
 * a CloudEvent), or EVENT_NO_MEMORY with *ret_error filled */
int event_decode(enum event_format format, const struct event_source *source, struct json_document *document,
                 struct event *ret_event, struct event_error *ret_error) __attribute__((warn_unused_result));
