/* json: a bounded, validating, allocation-light JSON reader for the hot path. Parses into a flat array of
 * nodes over the caller's bytes; nothing is copied, numbers stay text. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

#define JSON_DEPTH_MAX 64          /* deeper nesting is refused: no domain event needs it */
#define JSON_NODES_MAX (1u << 20)  /* bounds memory: 16 bytes a node */
#define JSON_SIZE_MAX  (16u << 20) /* bytes of one document */

struct json_node {
    uint32_t type : 4;
    uint32_t has_escapes : 1; /* strings: \-escapes inside, see json_unescape */
    uint32_t : 27;
    uint32_t start; /* offset of the text; for strings: after the opening quote */
    uint32_t size;  /* bytes of the text; for strings: without quotes, escapes not undone */
    uint32_t end;   /* index of the node after this one and all it contains: siblings are walked by it */
};
/* An object's children alternate name (a string node), value. Node 0 is the root. */

struct json_document {
    const char *text;
    struct json_node *nodes;
    uint32_t nodes_count;
    uint32_t nodes_capacity; /* grows, is kept between parses */
};

#define JSON_INVALID   (-1)
#define JSON_NO_MEMORY (-2) /* says nothing about the text */

struct json_error {
    uint32_t offset;  /* of the byte that is wrong; of the string's first byte where that is not UTF-8 */
    const char *text; /* a constant */
};

/** Parses and validates all of RFC 8259, UTF-8 included; trailing bytes but white space are an error. `text`
 * must stay. An escaped half of a surrogate pair is refused: it stands for no character. Duplicate names:
 * json_member finds the last one (as most parsers do).
 * @return 0, JSON_INVALID or JSON_NO_MEMORY with *ret_error */
int json_parse(struct json_document *document, const char *text, size_t size, struct json_error *ret_error)
    __attribute__((warn_unused_result));
void json_deinit(struct json_document *document);

/** Value of a member of the object node, by exact (unescaped) name.
 * @return node index, or 0 when there is none or the node is no object */
uint32_t json_member(const struct json_document *document, uint32_t object, const char *name, size_t size);

/** Is the string node this text, its escapes undone? */
bool json_string_equals(const struct json_document *document, uint32_t node, const char *text, size_t size);

/** Undoes the escapes of a string node into `out` (at least node.size bytes). @return bytes written. */
size_t json_unescape(const struct json_document *document, uint32_t node, char *out);
