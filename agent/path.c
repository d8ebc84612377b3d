#include "path.h"

#include <stdlib.h>
#include <string.h>

/* --- compiling --- */

struct reader {
    const char *text;
    const char *at;
    char stop;
    struct path_step steps[PATH_STEPS_MAX];
    size_t steps_count;
    char *names; /* unquoted names, one after the other */
    size_t names_size;
    struct path_error error;
};

static bool fail(struct reader *reader, const char *where, const char *what)
{
    reader->error = (struct path_error){(size_t)(where - reader->text), what};
    return false;
}

static bool at_end(const struct reader *reader)
{
    return *reader->at == '\0' || *reader->at == reader->stop;
}

static bool is_bare(char c)
{
    return (unsigned char)c > ' ' && c != 0x7f && !strchr(".[]{}'\"$\\", c);
}

static bool add_step(struct reader *reader, struct path_step step)
{
    if (reader->steps_count == PATH_STEPS_MAX)
        return fail(reader, reader->at, "too many steps; shorten the path");
    reader->steps[reader->steps_count++] = step;
    return true;
}

static bool read_bare_name(struct reader *reader)
{
    const char *start = reader->at;
    char *name = reader->names + reader->names_size;
    while (is_bare(*reader->at) && !at_end(reader))
        reader->names[reader->names_size++] = *reader->at++;
    if (reader->at == start)
        return fail(reader, start, "no field name; write odd ones as ['my field']");
    return add_step(reader, (struct path_step){STEP_MEMBER, 0, name, (uint32_t)(reader->at - start)});
}

/* Behind [' : up to and with ']; \' and \\ stand for ' and \. */
static bool read_quoted_name(struct reader *reader)
{
    const char *start = reader->at;
    char *name = reader->names + reader->names_size;
    while (*reader->at != '\'') {
        if (*reader->at == '\\' && (reader->at[1] == '\'' || reader->at[1] == '\\'))
            reader->at++;
        if (*reader->at == '\0')
            return fail(reader, start - 1, "a quoted name has no end; add '");
        reader->names[reader->names_size++] = *reader->at++;
    }
    reader->at++;
    size_t size = (size_t)(reader->names + reader->names_size - name);
    return add_step(reader, (struct path_step){STEP_MEMBER, 0, name, (uint32_t)size});
}

static bool read_index(struct reader *reader)
{
    const char *start = reader->at;
    uint32_t index = 0;
    while (*reader->at >= '0' && *reader->at <= '9' && index < JSON_NODES_MAX)
        index = index * 10 + (uint32_t)(*reader->at++ - '0');
    if (reader->at == start || index >= JSON_NODES_MAX)
        return fail(reader, start, "unknown step; write [0], [*] or ['name']");
    return add_step(reader, (struct path_step){.kind = STEP_INDEX, .index = index});
}

static bool read_bracket(struct reader *reader)
{
    bool is_good;
    reader->at++;
    if (*reader->at == '*') {
        reader->at++;
        is_good = add_step(reader, (struct path_step){.kind = STEP_ALL});
    } else if (*reader->at == '\'') {
        reader->at++;
        is_good = read_quoted_name(reader);
    } else {
        is_good = read_index(reader);
    }
    if (!is_good)
        return false;
    if (*reader->at != ']')
        return fail(reader, reader->at, "a step has no end; add ]");
    reader->at++;
    return true;
}

static bool read_steps(struct reader *reader)
{
    if (!(*reader->at == '[' ? read_bracket(reader) : read_bare_name(reader)))
        return false;
    while (!at_end(reader)) {
        if (*reader->at == '[') {
            if (!read_bracket(reader))
                return false;
        } else if (*reader->at == '.') {
            reader->at++;
            if (!read_bare_name(reader))
                return false;
        } else {
            return fail(reader, reader->at, "unexpected character; write odd names as ['my field']");
        }
    }
    return true;
}

/* @key, @topic, @header.name: the header's name is all that follows. */
static bool read_special(struct reader *reader, struct path *path)
{
    const char *start = reader->at;
    while (!at_end(reader))
        reader->at++;
    size_t size = (size_t)(reader->at - start);
    if (size == 4 && memcmp(start, "@key", 4) == 0) {
        path->root = PATH_KEY;
    } else if (size == 6 && memcmp(start, "@topic", 6) == 0) {
        path->root = PATH_TOPIC;
    } else if (size > 8 && memcmp(start, "@header.", 8) == 0) {
        path->root = PATH_HEADER;
        path->header = strndup(start + 8, size - 8);
        return path->header ? true : fail(reader, start, NULL);
    } else {
        return fail(reader, start,
                    "unknown @name; write @key, @topic or @header.name, or a field as ['@name']");
    }
    return true;
}

static bool keep_steps(struct reader *reader, struct path *path)
{
    path->steps = calloc(reader->steps_count, sizeof *path->steps);
    if (!path->steps)
        return fail(reader, reader->at, NULL);
    memcpy(path->steps, reader->steps, reader->steps_count * sizeof *path->steps);
    path->steps_count = reader->steps_count;
    for (size_t i = 0; i < path->steps_count; i++)
        path->has_fan_out |= path->steps[i].kind == STEP_ALL;
    return true;
}

int path_compile(const char *text, char stop, struct path *ret_path, size_t *ret_size,
                 struct path_error *ret_error)
{
    struct reader reader = {.text = text, .at = text, .stop = stop};
    struct path path = {.root = PATH_DOCUMENT};
    bool is_good = false;
    if (strnlen(text, PATH_SIZE_MAX + 1) > PATH_SIZE_MAX && stop == '\0') {
        fail(&reader, text, "too long; shorten it");
        goto out;
    }
    reader.names = path.names = calloc(1, strlen(text) + 1);
    if (!path.names) {
        fail(&reader, text, NULL);
        goto out;
    }
    is_good = *text == '@' ? read_special(&reader, &path) : read_steps(&reader) && keep_steps(&reader, &path);
    if (is_good) {
        path.text = strndup(text, (size_t)(reader.at - text));
        is_good = path.text ? true : fail(&reader, text, NULL);
    }
out:
    if (!is_good) {
        path_deinit(&path);
        *ret_error = reader.error;
        return -1;
    }
    *ret_path = path;
    *ret_size = (size_t)(reader.at - text);
    return 0;
}

void path_deinit(struct path *path)
{
    free(path->text);
    free(path->header);
    free(path->steps);
    free(path->names);
    *path = (struct path){.root = PATH_DOCUMENT};
}

/* --- resolving --- */

static int add_value(struct path_values *values, struct path_value value)
{
    if (values->count == values->capacity) {
        size_t capacity = values->capacity ? 2 * values->capacity : 64;
        struct path_value *items = realloc(values->items, capacity * sizeof *items);
        if (!items)
            return -1;
        values->items = items;
        values->capacity = capacity;
    }
    values->items[values->count++] = value;
    return 0;
}

static int add_missing(struct path_values *values)
{
    return add_value(values, (struct path_value){.type = JSON_NULL});
}

static int add_text(struct path_values *values, const void *text, size_t size)
{
    if (!text)
        return add_missing(values);
    return add_value(values, (struct path_value){.type = JSON_STRING, .text = text, .size = size});
}

static int add_node(struct path_values *values, const struct json_document *document, uint32_t node)
{
    const struct json_node *n = &document->nodes[node];
    return add_value(values, (struct path_value){.type = (enum json_type)n->type,
                                                 .has_escapes = n->has_escapes,
                                                 .node = node,
                                                 .text = document->text + n->start,
                                                 .size = n->size});
}

/* The last header of that name counts: producers that pass a record on append theirs. */
static int add_header(struct path_values *values, const struct event_source *source, const char *name)
{
    for (size_t i = source->headers_count; i-- > 0;) {
        if (strcmp(source->headers[i].name, name) == 0)
            return add_text(values, source->headers[i].value, source->headers[i].value_size);
    }
    return add_missing(values);
}

/* @return the element's node, or 0 */
static uint32_t element(const struct json_document *document, uint32_t array, uint32_t index)
{
    if (document->nodes[array].type != JSON_ARRAY)
        return 0;
    uint32_t node = array + 1;
    while (index > 0 && node < document->nodes[array].end) {
        node = document->nodes[node].end;
        index--;
    }
    return node < document->nodes[array].end ? node : 0;
}

/* Walks the steps from `step` on; each [*] goes one call deeper, at most PATH_STEPS_MAX. */
static int walk(const struct path *path, size_t step, const struct json_document *document, uint32_t node,
                struct path_values *values)
{
    for (; step < path->steps_count; step++) {
        const struct path_step *s = &path->steps[step];
        if (s->kind == STEP_ALL)
            break;
        node = s->kind == STEP_MEMBER ? json_member(document, node, s->name, s->name_size)
                                      : element(document, node, s->index);
        if (!node)
            return add_missing(values);
    }
    if (step == path->steps_count)
        return add_node(values, document, node);
    if (document->nodes[node].type != JSON_ARRAY)
        return add_missing(values);
    for (uint32_t i = node + 1; i < document->nodes[node].end; i = document->nodes[i].end) {
        if (walk(path, step + 1, document, i, values) < 0)
            return -1;
    }
    return 0;
}

int path_resolve(const struct path *path, const struct event *event, struct path_values *values)
{
    switch (path->root) {
    case PATH_KEY:
        return add_text(values, event->source->key, event->source->key_size);
    case PATH_TOPIC:
        return add_text(values, event->source->topic, strlen(event->source->topic));
    case PATH_HEADER:
        return add_header(values, event->source, path->header);
    case PATH_DOCUMENT:
        break;
    }
    return event->has_document ? walk(path, 0, event->document, 0, values) : add_missing(values);
}
