#include "broadcast.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "resp.h"
#include "text.h"

/* What stands around the lists of one message: {"v":1,"ns":"...","epoch":"...","seq":N, the lists' names, the
 * cause. */
#define FRAME_SIZE_MAX 1536u
#define CAUSE_SIZE_MAX 768u

enum { LIST_KEYS, LIST_KEYS_BASE64, LIST_TAGS, LIST_TAGS_BASE64, LIST_PATTERNS, LISTS };

static const char *const list_names[LISTS] = {"\"keys\":[", "\"keys_base64\":[", "\"tags\":[",
                                              "\"tags_base64\":[", "\"patterns\":["};

struct part {
    size_t start, size; /* within `done` */
};

struct broadcast_writer {
    struct resp lists[LISTS]; /* comma separated JSON strings of the part in work */
    size_t size;              /* of all lists */
    bool is_flush;
    char cause[CAUSE_SIZE_MAX];
    struct resp done; /* completed parts, back to back */
    struct part *parts;
    size_t parts_count, parts_capacity;
};

struct broadcast_writer *broadcast_writer_create(void)
{
    return calloc(1, sizeof(struct broadcast_writer));
}

void broadcast_writer_destroy(struct broadcast_writer **writer)
{
    if (!writer || !*writer)
        return;
    for (int i = 0; i < LISTS; i++)
        resp_deinit(&(*writer)->lists[i]);
    resp_deinit(&(*writer)->done);
    free((*writer)->parts);
    free(*writer);
    *writer = NULL;
}

static void clear_lists(struct broadcast_writer *writer)
{
    for (int i = 0; i < LISTS; i++)
        resp_clear(&writer->lists[i]);
    writer->size = 0;
    writer->is_flush = false;
}

void broadcast_writer_clear(struct broadcast_writer *writer)
{
    clear_lists(writer);
    resp_clear(&writer->done);
    writer->parts_count = 0;
    writer->cause[0] = '\0';
}

/* Appends text as a JSON string; `text` is valid UTF-8. Control characters, '"' and '\' are escaped. */
static void append_string(struct resp *out, const char *text, size_t size)
{
    resp_append(out, "\"", 1);
    size_t plain = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        char escape[8];
        int n = c == '"' || c == '\\' ? snprintf(escape, sizeof escape, "\\%c", c)
                                      : snprintf(escape, sizeof escape, "\\u%04x", c);
        resp_append(out, text + plain, i - plain);
        resp_append(out, escape, (size_t)n);
        plain = i + 1;
    }
    resp_append(out, text + plain, size - plain);
    resp_append(out, "\"", 1);
}

static void append_base64(struct resp *out, const void *data, size_t size)
{
    size_t text_size = base64_size(size);
    char *text = malloc(text_size + 1);
    if (!text) {
        out->has_failed = true;
        return;
    }
    base64_encode(data, size, text);
    resp_append(out, "\"", 1);
    resp_append(out, text, text_size);
    resp_append(out, "\"", 1);
    free(text);
}

/* Turns the lists into one part. Nothing in them: nothing happens. */
static int complete_part(struct broadcast_writer *writer)
{
    if (writer->size == 0 && !writer->is_flush)
        return 0;
    if (writer->parts_count == writer->parts_capacity) {
        size_t capacity = writer->parts_capacity ? 2 * writer->parts_capacity : 4;
        struct part *parts = realloc(writer->parts, capacity * sizeof *parts);
        if (!parts)
            return -1;
        writer->parts = parts;
        writer->parts_capacity = capacity;
    }
    struct part *part = &writer->parts[writer->parts_count];
    part->start = writer->done.size;
    const char *separator = "";
    if (writer->is_flush) {
        resp_append(&writer->done, "\"flush\":true", 12);
        separator = ",";
    }
    for (int i = 0; i < LISTS && !writer->is_flush; i++) {
        struct resp *list = &writer->lists[i];
        if (list->has_failed)
            return -1;
        if (list->size == 0)
            continue;
        resp_append(&writer->done, separator, strlen(separator));
        resp_append(&writer->done, list_names[i], strlen(list_names[i]));
        resp_append(&writer->done, list->data, list->size);
        resp_append(&writer->done, "]", 1);
        separator = ",";
    }
    resp_append(&writer->done, writer->cause, strlen(writer->cause));
    resp_append(&writer->done, "}", 1);
    if (writer->done.has_failed)
        return -1;
    part->size = writer->done.size - part->start;
    writer->parts_count++;
    clear_lists(writer);
    return 0;
}

int broadcast_writer_add(struct broadcast_writer *writer, enum broadcast_kind kind, const void *data,
                         size_t size)
{
    bool is_text = utf8_is_valid(data, size);
    /* At worst every byte becomes \u00XX; only then is the exact size worth counting. */
    size_t worst = is_text ? 6 * size + 3 : base64_size(size) + 3;
    if (is_text && writer->size + worst > BROADCAST_SIZE_MAX - FRAME_SIZE_MAX) {
        worst = size + 3;
        for (size_t i = 0; i < size; i++) {
            unsigned char c = ((const unsigned char *)data)[i];
            worst += c < 0x20 ? 5 : c == '"' || c == '\\';
        }
    }
    if (worst > BROADCAST_SIZE_MAX - FRAME_SIZE_MAX)
        return broadcast_writer_flush_all(writer); /* fits into no message */
    if (writer->size + worst > BROADCAST_SIZE_MAX - FRAME_SIZE_MAX && complete_part(writer) < 0)
        return -1;
    int which = kind == BROADCAST_PATTERNS ? LIST_PATTERNS : (int)kind * 2 + !is_text;
    if (kind == BROADCAST_PATTERNS && !is_text)
        return broadcast_writer_flush_all(writer);
    struct resp *list = &writer->lists[which];
    size_t before = list->size;
    if (before)
        resp_append(list, ",", 1);
    if (is_text)
        append_string(list, data, size);
    else
        append_base64(list, data, size);
    writer->size += list->size - before;
    return list->has_failed ? -1 : 0;
}

int broadcast_writer_flush_all(struct broadcast_writer *writer)
{
    if (complete_part(writer) < 0)
        return -1;
    writer->is_flush = true;
    return complete_part(writer);
}

void broadcast_writer_cause(struct broadcast_writer *writer, const char *topic, int32_t partition,
                            int64_t offset, const char *rule)
{
    struct resp text;
    char numbers[96];
    resp_init(&text);
    resp_append(&text, ",\"cause\":{\"topic\":", 18);
    append_string(&text, topic, strlen(topic));
    int n = snprintf(numbers, sizeof numbers, ",\"partition\":%d,\"offset\":%lld", (int)partition,
                     (long long)offset);
    resp_append(&text, numbers, (size_t)n);
    if (rule && utf8_is_valid(rule, strlen(rule))) {
        resp_append(&text, ",\"rule\":", 8);
        append_string(&text, rule, strlen(rule));
    }
    resp_append(&text, "}", 1);
    writer->cause[0] = '\0';
    if (!text.has_failed &&
        text.size < sizeof writer->cause) { /* too long a name: rather no cause than half of one */
        memcpy(writer->cause, text.data, text.size);
        writer->cause[text.size] = '\0';
    }
    resp_deinit(&text);
}

int broadcast_writer_finish(struct broadcast_writer *writer)
{
    return complete_part(writer);
}

size_t broadcast_writer_count(const struct broadcast_writer *writer)
{
    return writer->parts_count;
}

const char *broadcast_writer_part(const struct broadcast_writer *writer, size_t i, size_t *ret_size)
{
    *ret_size = writer->parts[i].size;
    return writer->done.data + writer->parts[i].start;
}
