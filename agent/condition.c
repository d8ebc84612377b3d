#include "condition.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- kinds: each looks at the values its path led to; with [*] one value that fits is enough --- */

static bool is_there(const struct condition *condition, const struct event *event,
                     const struct path_value *value)
{
    (void)condition, (void)event;
    return value->type != JSON_NULL;
}

/* Is the JSON number, as written, this integer? 1 and 1.0 are 1; a number written with an exponent is no
 * integer. */
static bool number_equals(const char *text, size_t size, const struct constant *constant)
{
    size_t end = text[0] == '-';
    while (end < size && text[end] >= '0' && text[end] <= '9')
        end++;
    for (size_t i = end; i < size; i++) {
        if (text[i] != (i == end ? '.' : '0'))
            return false;
    }
    if (end == 2 && text[0] == '-' && text[1] == '0') /* -0 */
        return constant->number == 0;
    return strlen(constant->text) == end && memcmp(constant->text, text, end) == 0;
}

static bool text_equals(const struct event *event, const struct path_value *value, const char *text)
{
    size_t size = strlen(text);
    if (value->has_escapes)
        return json_string_equals(event->document, value->node, text, size);
    return value->size == size && memcmp(value->text, text, size) == 0;
}

static bool is_one_of(const struct condition *condition, const struct event *event,
                      const struct path_value *value)
{
    for (size_t i = 0; i < condition->constants_count; i++) {
        const struct constant *constant = &condition->constants[i];
        bool is_equal = false;
        switch (constant->type) {
        case CONSTANT_TEXT:
            is_equal = value->type == JSON_STRING && text_equals(event, value, constant->text);
            break;
        case CONSTANT_INTEGER:
            is_equal = value->type == JSON_NUMBER && number_equals(value->text, value->size, constant);
            break;
        case CONSTANT_BOOLEAN:
            is_equal = value->type == (constant->number ? JSON_TRUE : JSON_FALSE);
            break;
        }
        if (is_equal)
            return true;
    }
    return false;
}

typedef bool (*fits_fn)(const struct condition *condition, const struct event *event,
                        const struct path_value *value);
static const fits_fn fits[] = {[CONDITION_ONE_OF] = is_one_of, [CONDITION_EXISTS] = is_there};

int condition_holds(const struct condition *condition, const struct event *event, struct path_values *values)
{
    bool has_fit = false;
    values->count = 0;
    if (path_resolve(&condition->path, event, values) < 0)
        return EVENT_NO_MEMORY;
    for (size_t i = 0; i < values->count && !has_fit; i++)
        has_fit = fits[condition->kind](condition, event, &values->items[i]);
    return has_fit == condition->expected;
}

/* --- compiling --- */

static char *text_of(const struct constant *constant)
{
    char number[24];
    if (constant->type == CONSTANT_TEXT)
        return strdup(constant->text);
    snprintf(number, sizeof number, "%lld", (long long)constant->number);
    return strdup(number);
}

static int copy_constants(struct condition *condition, const struct constant *constants, size_t count)
{
    if (count == 0)
        return 0;
    condition->constants = calloc(count, sizeof *constants);
    if (!condition->constants)
        return -1;
    condition->constants_count = count;
    for (size_t i = 0; i < count; i++) {
        struct constant *copy = &condition->constants[i];
        copy->type = constants[i].type;
        copy->number = constants[i].number;
        copy->text = text_of(&constants[i]);
        if (!copy->text)
            return -1;
    }
    return 0;
}

int condition_compile(enum condition_kind kind, const char *field, const struct constant *constants,
                      size_t count, bool expected, struct condition *ret_condition, char *error,
                      size_t error_size)
{
    struct condition condition = {.kind = kind, .expected = expected};
    struct path_error path_error = {.text = NULL};
    size_t size;
    if (path_compile(field, '\0', &condition.path, &size, &path_error) < 0 ||
        copy_constants(&condition, constants, count) < 0) {
        if (path_error.text)
            snprintf(error, error_size, "column %zu: %s", path_error.offset + 1, path_error.text);
        else
            snprintf(error, error_size, "out of memory; free some");
        condition_deinit(&condition);
        return -1;
    }
    *ret_condition = condition;
    return 0;
}

void condition_deinit(struct condition *condition)
{
    for (size_t i = 0; i < condition->constants_count; i++)
        free(condition->constants[i].text);
    free(condition->constants);
    path_deinit(&condition->path);
    *condition = (struct condition){.kind = CONDITION_ONE_OF};
}
