#include "template.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "glob.h"

struct part {
    char *literal; /* NULL: the path counts */
    size_t size;
    struct path path;
};

struct template
{
    char *text;
    struct part parts[TEMPLATE_PARTS_MAX];
    size_t parts_count;
};

/* --- compiling --- */

struct reader {
    struct template *template;
    const char *at;
    char *error;
    size_t error_size;
};

static bool fail(struct reader *reader, const char *where, const char *what)
{
    if (what)
        snprintf(reader->error, reader->error_size, "column %zu: %s",
                 (size_t)(where - reader->template->text) + 1, what);
    else
        snprintf(reader->error, reader->error_size, "out of memory; free some");
    return false;
}

static struct part *add_part(struct reader *reader)
{
    if (reader->template->parts_count == TEMPLATE_PARTS_MAX) {
        fail(reader, reader->at, "too many literals and paths; use fewer");
        return NULL;
    }
    return &reader->template->parts[reader->template->parts_count++];
}

/* Text up to the next ${. */
static bool read_literal(struct reader *reader)
{
    struct part *part = add_part(reader);
    if (!part)
        return false;
    part->literal = malloc(strlen(reader->at) + 1);
    if (!part->literal)
        return fail(reader, reader->at, NULL);
    while (*reader->at && !(reader->at[0] == '$' && reader->at[1] == '{')) {
        if (*reader->at == '$' && *++reader->at != '$')
            return fail(reader, reader->at - 1, "a lone $; write $$ for a dollar sign, ${path} for a value");
        part->literal[part->size++] = *reader->at++;
    }
    return true;
}

static bool read_placeholder(struct reader *reader)
{
    struct path_error error;
    size_t size;
    const char *start = reader->at;
    struct part *part = add_part(reader);
    if (!part)
        return false;
    reader->at += 2;
    if (path_compile(reader->at, '}', &part->path, &size, &error) < 0)
        return fail(reader, reader->at + error.offset, error.text);
    reader->at += size;
    if (*reader->at != '}')
        return fail(reader, start, "${ has no end; add the closing }");
    reader->at++;
    return true;
}

int template_compile(const char *text, struct template **ret_template, char *error, size_t error_size)
{
    struct template *template = calloc(1, sizeof *template);
    struct reader reader = {.template = template, .error = error, .error_size = error_size};
    if (!template || !(template->text = strdup(text))) {
        fail(&reader, text, NULL);
        goto fail;
    }
    reader.at = template->text;
    if (*text == '\0') {
        fail(&reader, template->text, "empty; write a name");
        goto fail;
    }
    if (strlen(text) > TEMPLATE_SIZE_MAX) {
        fail(&reader, template->text + TEMPLATE_SIZE_MAX, "too long; shorten it");
        goto fail;
    }
    while (*reader.at) {
        if (!(strncmp(reader.at, "${", 2) == 0 ? read_placeholder(&reader) : read_literal(&reader)))
            goto fail;
    }
    *ret_template = template;
    return 0;
fail:
    template_destroy(&template);
    return -1;
}

void template_destroy(struct template **template)
{
    if (!template || !*template)
        return;
    for (size_t i = 0; i < (*template)->parts_count; i++) {
        free((*template)->parts[i].literal);
        path_deinit(&(*template)->parts[i].path);
    }
    free((*template)->text);
    free(*template);
    *template = NULL;
}

const char *template_text(const struct template *template)
{
    return template->text;
}

const char *template_document_path(const struct template *template)
{
    for (size_t i = 0; i < template->parts_count; i++) {
        const struct part *part = &template->parts[i];
        if (!part->literal && part->path.root == PATH_DOCUMENT)
            return part->path.text;
    }
    return NULL;
}

char *template_glob(const struct template *template)
{
    char *glob = malloc(2 * strlen(template->text) + 1);
    size_t size = 0;
    if (!glob)
        return NULL;
    for (size_t i = 0; i < template->parts_count; i++) {
        const struct part *part = &template->parts[i];
        if (part->literal)
            size += glob_escape(part->literal, part->size, glob + size);
        else if (i == 0 || template->parts[i - 1].literal)
            glob[size++] = '*';
    }
    glob[size] = '\0';
    return glob;
}

/* --- expanding --- */

/* The values of one part, and which of them stands in the name being written. */
struct slot {
    size_t first, count, at;
};

static int fail_event(const struct template *template, struct event_error *ret_error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int fail_event(const struct template *template, struct event_error *ret_error, const char *format, ...)
{
    va_list args;
    int size = snprintf(ret_error->text, sizeof ret_error->text, "template \"%.100s\": ", template->text);
    va_start(args, format);
    vsnprintf(ret_error->text + size, sizeof ret_error->text - (size_t)size, format, args);
    va_end(args);
    ret_error->rule = NULL;
    return -1;
}

static int no_memory(const struct template *template, struct event_error *ret_error)
{
    fail_event(template, ret_error, "out of memory");
    return EVENT_NO_MEMORY;
}

static int check_value(const struct template *template, const struct path *path,
                       const struct path_value *value, struct event_error *ret_error)
{
    switch (value->type) {
    case JSON_NULL:
        return fail_event(template, ret_error, "field \"%.80s\" is missing or null", path->text);
    case JSON_OBJECT:
        return fail_event(template, ret_error, "field \"%.80s\" is an object", path->text);
    case JSON_ARRAY:
        return fail_event(template, ret_error, "field \"%.80s\" is an array; [*] yields its elements",
                          path->text);
    default:
        return 0;
    }
}

/* Finds the values of every path. @param ret_total how many names there will be */
static int fill_slots(const struct template *template, const struct event *event, size_t names_max,
                      struct slot *slots, struct path_values *values, size_t *ret_total,
                      struct event_error *ret_error)
{
    size_t total = 1;
    bool is_empty = false;
    values->count = 0;
    for (size_t i = 0; i < template->parts_count; i++) {
        const struct part *part = &template->parts[i];
        slots[i] = (struct slot){.first = values->count};
        if (part->literal)
            continue;
        if (path_resolve(&part->path, event, values) < 0)
            return no_memory(template, ret_error);
        slots[i].count = values->count - slots[i].first;
        for (size_t j = slots[i].first; j < values->count; j++) {
            if (check_value(template, &part->path, &values->items[j], ret_error) < 0)
                return -1;
        }
        is_empty |= slots[i].count == 0;
        /* No factor is over JSON_NODES_MAX, and the product is cut off well before it could wrap. */
        total = total > names_max ? total : total * slots[i].count;
    }
    if (!is_empty && total > names_max)
        return fail_event(template, ret_error, "yields too many names (max_fan_out)");
    *ret_total = is_empty ? 0 : total;
    return 0;
}

static int reserve_bytes(struct template_output *output, size_t size)
{
    if (output->bytes_capacity - output->bytes_count > size) /* never NULL then */
        return 0;
    size_t capacity = 2 * output->bytes_capacity + size + 256;
    char *bytes = realloc(output->bytes, capacity);
    if (!bytes)
        return -1;
    output->bytes = bytes;
    output->bytes_capacity = capacity;
    return 0;
}

static int reserve_names(struct template_output *output, size_t count)
{
    if (output->names_capacity - output->names_count >= count)
        return 0;
    size_t capacity = 2 * output->names_capacity + count + 16;
    struct template_name *names = realloc(output->names, capacity * sizeof *names);
    if (!names)
        return -1;
    output->names = names;
    output->names_capacity = capacity;
    return 0;
}

static int append_part(const struct part *part, const struct slot *slot, const struct event *event,
                       struct template_output *output)
{
    const struct path_value *value = part->literal ? NULL : &output->values.items[slot->first + slot->at];
    const char *text = value ? value->text : part->literal;
    size_t size = value ? value->size : part->size;
    if (reserve_bytes(output, size) < 0)
        return -1;
    char *out = output->bytes + output->bytes_count;
    if (value && value->has_escapes)
        size = json_unescape(event->document, value->node, out);
    else if (text && size > 0)
        memcpy(out, text, size);
    output->bytes_count += size;
    return 0;
}

static int append_name(const struct template *template, const struct slot *slots, const struct event *event,
                       struct template_output *output, struct event_error *ret_error)
{
    size_t start = output->bytes_count;
    for (size_t i = 0; i < template->parts_count; i++) {
        if (append_part(&template->parts[i], &slots[i], event, output) < 0)
            return no_memory(template, ret_error);
    }
    size_t size = output->bytes_count - start;
    if (size == 0)
        return fail_event(template, ret_error, "yields an empty name");
    if (size > NAME_SIZE_MAX)
        return fail_event(template, ret_error, "yields a name of %zu bytes; at most %u are allowed", size,
                          NAME_SIZE_MAX);
    if (output->bytes_count > OUTPUT_BYTES_MAX)
        return fail_event(template, ret_error, "the event's names come to more than %u bytes",
                          OUTPUT_BYTES_MAX);
    output->names[output->names_count++] = (struct template_name){start, size};
    return 0;
}

/* Steps to the next combination, the last path fastest, like an odometer. */
static void advance(const struct template *template, struct slot *slots)
{
    for (size_t i = template->parts_count; i-- > 0;) {
        if (template->parts[i].literal)
            continue;
        if (++slots[i].at < slots[i].count)
            return;
        slots[i].at = 0;
    }
}

int template_expand(const struct template *template, const struct event *event, size_t names_max,
                    struct template_output *output, struct event_error *ret_error)
{
    struct slot slots[TEMPLATE_PARTS_MAX];
    size_t total = 0, room = names_max > output->names_count ? names_max - output->names_count : 0;
    int status = fill_slots(template, event, room, slots, &output->values, &total, ret_error);
    if (status < 0)
        return status;
    if (reserve_names(output, total) < 0)
        return no_memory(template, ret_error);
    for (size_t i = 0; i < total; i++) {
        status = append_name(template, slots, event, output, ret_error);
        if (status < 0)
            return status;
        advance(template, slots);
    }
    return 0;
}

void template_output_clear(struct template_output *output)
{
    output->names_count = output->bytes_count = output->values.count = 0;
}

void template_output_deinit(struct template_output *output)
{
    free(output->names);
    free(output->bytes);
    free(output->values.items);
    *output = (struct template_output){.names = NULL};
}
