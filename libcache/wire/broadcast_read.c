#include "broadcast.h"

#include <stdlib.h>
#include <string.h>

#include "text.h"

#define VERSION        "1"
#define NAME_SIZE_MAX  65535u /* bytes of a key, the longest name there is */
#define SEQ_DIGITS_MAX 15     /* Redis scripts count in doubles: exact up to 2^53 */

static bool text_is(const struct json_document *document, uint32_t node, enum json_type type,
                    const char *text)
{
    const struct json_node *n = &document->nodes[node];
    return node && n->type == (unsigned)type && !n->has_escapes && n->size == strlen(text) &&
           memcmp(document->text + n->start, text, n->size) == 0;
}

static bool read_epoch(const struct json_document *document, uint32_t node, char out[EPOCH_SIZE])
{
    const struct json_node *n = &document->nodes[node];
    if (!node || n->type != JSON_STRING || n->has_escapes || n->size == 0 || n->size >= EPOCH_SIZE)
        return false;
    for (uint32_t i = 0; i < n->size; i++) {
        char c = document->text[n->start + i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
            return false;
    }
    memcpy(out, document->text + n->start, n->size);
    out[n->size] = '\0';
    return true;
}

static bool read_seq(const struct json_document *document, uint32_t node, uint64_t *ret_seq)
{
    const struct json_node *n = &document->nodes[node];
    uint64_t seq = 0;
    if (!node || n->type != JSON_NUMBER || n->size > SEQ_DIGITS_MAX)
        return false;
    for (uint32_t i = 0; i < n->size; i++) {
        char c = document->text[n->start + i];
        if (c < '0' || c > '9')
            return false;
        seq = seq * 10 + (uint64_t)(c - '0');
    }
    *ret_seq = seq;
    return seq > 0;
}

/* An absent list is fine and counts 0; anything but a list of strings of 1 to NAME_SIZE_MAX bytes is not. */
static bool check_list(const struct json_document *document, const char *name, bool is_base64, size_t *count)
{
    uint32_t list = json_member(document, 0, name, strlen(name));
    if (!list)
        return true;
    if (document->nodes[list].type != JSON_ARRAY)
        return false;
    for (uint32_t i = list + 1; i < document->nodes[list].end; i = document->nodes[i].end) {
        const struct json_node *n = &document->nodes[i];
        if (n->type != JSON_STRING || n->size == 0 || n->size > 6 * NAME_SIZE_MAX)
            return false;
        if (is_base64) {
            char *bytes = malloc(n->size);
            bool is_good =
                bytes && !n->has_escapes && base64_decode(document->text + n->start, n->size, bytes) > 0;
            free(bytes);
            if (!is_good)
                return false;
        }
        (*count)++;
    }
    return true;
}

int broadcast_parse(struct json_document *document, const char *text, size_t size, const char *ns,
                    struct broadcast *ret_broadcast)
{
    struct json_error error;
    struct broadcast broadcast = {.is_flush = false};
    size_t names = 0;
    if (size > BROADCAST_SIZE_MAX || json_parse(document, text, size, &error) < 0 ||
        document->nodes[0].type != JSON_OBJECT)
        return -1;
    if (!text_is(document, json_member(document, 0, "v", 1), JSON_NUMBER, VERSION) ||
        !text_is(document, json_member(document, 0, "ns", 2), JSON_STRING, ns) ||
        !read_epoch(document, json_member(document, 0, "epoch", 5), broadcast.epoch) ||
        !read_seq(document, json_member(document, 0, "seq", 3), &broadcast.seq))
        return -1;
    uint32_t flush = json_member(document, 0, "flush", 5);
    if (flush && document->nodes[flush].type != JSON_TRUE)
        return -1;
    broadcast.is_flush = flush != 0;
    if (!check_list(document, "keys", false, &names) || !check_list(document, "keys_base64", true, &names) ||
        !check_list(document, "tags", false, &names) || !check_list(document, "tags_base64", true, &names) ||
        !check_list(document, "patterns", false, &names))
        return -1;
    if (names == 0 && !broadcast.is_flush)
        return -1;
    *ret_broadcast = broadcast;
    return 0;
}

typedef void (*visit_fn)(void *arg, const void *name, size_t size);

static int visit_list(const struct json_document *document, const char *name, bool is_base64, visit_fn visit,
                      void *arg)
{
    uint32_t list = json_member(document, 0, name, strlen(name));
    if (!list || !visit)
        return 0;
    for (uint32_t i = list + 1; i < document->nodes[list].end; i = document->nodes[i].end) {
        const struct json_node *n = &document->nodes[i];
        if (!is_base64 && !n->has_escapes) {
            visit(arg, document->text + n->start, n->size);
            continue;
        }
        char *bytes = malloc(n->size);
        if (!bytes)
            return -1;
        long decoded = is_base64 ? base64_decode(document->text + n->start, n->size, bytes)
                                 : (long)json_unescape(document, i, bytes);
        if (decoded > 0)
            visit(arg, bytes, (size_t)decoded);
        free(bytes);
    }
    return 0;
}

static void visit_pattern(void *arg, const void *glob, size_t size)
{
    const struct broadcast_handler *handler = arg;
    handler->pattern(handler->arg, glob, size);
}

int broadcast_visit(const struct json_document *document, const struct broadcast_handler *handler)
{
    void *pattern_arg = (void *)(uintptr_t)handler;
    if (visit_list(document, "keys", false, handler->key, handler->arg) < 0 ||
        visit_list(document, "keys_base64", true, handler->key, handler->arg) < 0 ||
        visit_list(document, "tags", false, handler->tag, handler->arg) < 0 ||
        visit_list(document, "tags_base64", true, handler->tag, handler->arg) < 0 ||
        visit_list(document, "patterns", false, handler->pattern ? visit_pattern : NULL, pattern_arg) < 0)
        return -1;
    return 0;
}
