/* broadcast: the JSON object that tells of evictions (schemas/broadcast.schema.json). Encoding yields the
 * part after "seq", which the script completes; decoding checks everything, for it comes from the network. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json.h"

#define BROADCAST_SIZE_MAX 65536u /* of one message; larger batches are split */
#define EPOCH_SIZE         33     /* 1 to 32 bytes of [A-Za-z0-9] and a NUL */

/* --- encoding: values go in one after the other, parts come out --- */

enum broadcast_kind { BROADCAST_KEYS, BROADCAST_TAGS, BROADCAST_PATTERNS, BROADCAST_KINDS };

/* Collects keys, tags and patterns into as few parts as fit into BROADCAST_SIZE_MAX each. Text that is not
 * UTF-8 goes into "keys_base64", "tags_base64". A name too long for one message becomes "flush":true. */
struct broadcast_writer;
struct broadcast_writer *broadcast_writer_create(void);
void broadcast_writer_destroy(struct broadcast_writer **writer);
void broadcast_writer_clear(struct broadcast_writer *writer);
/** @return 0 or -1 (out of memory) */
int broadcast_writer_add(struct broadcast_writer *writer, enum broadcast_kind kind, const void *data,
                         size_t size) __attribute__((warn_unused_result));
int broadcast_writer_flush_all(struct broadcast_writer *writer) __attribute__((warn_unused_result));
/** "cause": {topic, partition, offset, rule} of the whole batch's first event; set before the first name is
 * added. rule may be NULL. */
void broadcast_writer_cause(struct broadcast_writer *writer, const char *topic, int32_t partition,
                            int64_t offset, const char *rule);
/** Completes the parts. @return 0 or -1 (out of memory) */
int broadcast_writer_finish(struct broadcast_writer *writer) __attribute__((warn_unused_result));
size_t broadcast_writer_count(const struct broadcast_writer *writer);
const char *broadcast_writer_part(const struct broadcast_writer *writer, size_t i, size_t *ret_size);

/* --- decoding --- */

struct broadcast {
    char epoch[EPOCH_SIZE];
    uint64_t seq;
    bool is_flush;
};

/** What a decoded broadcast evicts, one by one, in order. */
struct broadcast_handler {
    void (*key)(void *arg, const void *key, size_t size);
    void (*tag)(void *arg, const void *tag, size_t size);
    void (*pattern)(void *arg, const char *glob, size_t size);
    void *arg;
};

/** Decodes and checks one message. Unknown fields are ignored (newer agents), wrong types, a foreign ns,
 * another version, an empty object are errors.
 * @param document reused memory
 * @return 0 or -1: this message cannot be understood */
int broadcast_parse(struct json_document *document, const char *text, size_t size, const char *ns,
                    struct broadcast *ret_broadcast) __attribute__((warn_unused_result));
/** Hands over what the message just parsed into `document` evicts. @return 0 or -1 (out of memory) */
int broadcast_visit(const struct json_document *document, const struct broadcast_handler *handler)
    __attribute__((warn_unused_result));
