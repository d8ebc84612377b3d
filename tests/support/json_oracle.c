#include "json_oracle.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"

/* jansson's enumerators have the names of ours. */
#define JSON_OBJECT JANSSON_OBJECT
#define JSON_ARRAY  JANSSON_ARRAY
#define JSON_STRING JANSSON_STRING
#define JSON_TRUE   JANSSON_TRUE
#define JSON_FALSE  JANSSON_FALSE
#define JSON_NULL   JANSSON_NULL
#include <jansson.h>
#undef JSON_OBJECT
#undef JSON_ARRAY
#undef JSON_STRING
#undef JSON_TRUE
#undef JSON_FALSE
#undef JSON_NULL

static const char *differs(const struct json_document *document, uint32_t node, json_t *theirs);

static const char *string_differs(const struct json_document *document, uint32_t node, const char *text,
                                  size_t size)
{
    const struct json_node *n = &document->nodes[node];
    char *unescaped = malloc(n->size + 1);
    size_t unescaped_size = unescaped ? json_unescape(document, node, unescaped) : 0;
    bool is_same = unescaped && unescaped_size == size && memcmp(unescaped, text, size) == 0 &&
                   json_string_equals(document, node, text, size);
    free(unescaped);
    return is_same ? NULL : "a string";
}

static const char *number_differs(const struct json_document *document, uint32_t node, double number)
{
    char *copy = strndup(document->text + document->nodes[node].start, document->nodes[node].size);
    double ours = copy ? strtod(copy, NULL) : 0;
    free(copy);
    return ours < number || ours > number ? "a number" : NULL;
}

static const char *array_differs(const struct json_document *document, uint32_t node, json_t *theirs)
{
    size_t count = 0;
    for (uint32_t i = node + 1; i < document->nodes[node].end; i = document->nodes[i].end) {
        json_t *element = json_array_get(theirs, count++);
        const char *what = element ? differs(document, i, element) : "the length of an array";
        if (what)
            return what;
    }
    return count == json_array_size(theirs) ? NULL : "the length of an array";
}

static const char *object_differs(const struct json_document *document, uint32_t node, json_t *theirs)
{
    size_t count = 0;
    for (void *i = json_object_iter(theirs); i; i = json_object_iter_next(theirs, i)) {
        uint32_t member = json_member(document, node, json_object_iter_key(i), json_object_iter_key_len(i));
        const char *what =
            member ? differs(document, member, json_object_iter_value(i)) : "a name of an object";
        if (what)
            return what;
    }
    for (uint32_t i = node + 1; i < document->nodes[node].end; i = document->nodes[i + 1].end)
        count++;
    return count < json_object_size(theirs) ? "the size of an object"
                                            : NULL; /* ours counts names that come twice */
}

static const char *differs(const struct json_document *document, uint32_t node, json_t *theirs)
{
    switch ((enum json_type)document->nodes[node].type) {
    case JSON_NULL:
        return json_typeof(theirs) == JANSSON_NULL ? NULL : "a null";
    case JSON_FALSE:
        return json_typeof(theirs) == JANSSON_FALSE ? NULL : "a false";
    case JSON_TRUE:
        return json_typeof(theirs) == JANSSON_TRUE ? NULL : "a true";
    case JSON_NUMBER:
        return json_typeof(theirs) != JSON_REAL ? "a number's type"
                                                : number_differs(document, node, json_real_value(theirs));
    case JSON_STRING:
        return json_typeof(theirs) != JANSSON_STRING
                   ? "a string's type"
                   : string_differs(document, node, json_string_value(theirs), json_string_length(theirs));
    case JSON_ARRAY:
        return json_typeof(theirs) != JANSSON_ARRAY ? "an array's type"
                                                    : array_differs(document, node, theirs);
    case JSON_OBJECT:
        return json_typeof(theirs) != JANSSON_OBJECT ? "an object's type"
                                                     : object_differs(document, node, theirs);
    }
    return "a type";
}

/* jansson refuses numbers that no double holds and names with a NUL; we leave both to who reads the value. */
static bool is_known_refusal(const json_error_t *error)
{
    return json_error_code(error) == json_error_numeric_overflow ||
           json_error_code(error) == json_error_null_byte_in_key;
}

/* We bound depth and count, jansson does so later; and jansson loses a NUL byte behind a number. */
static bool is_known_leniency(const struct json_error *error, const char *text, size_t size)
{
    return strcmp(error->text, "nested too deep") == 0 || strcmp(error->text, "too many values") == 0 ||
           memchr(text, '\0', size);
}

const char *json_oracle_differs(const char *text, size_t size)
{
    struct json_document document = {.text = NULL};
    struct json_error error = {.text = ""};
    json_error_t their_error;
    const char *what = NULL;
    int status = json_parse(&document, text, size, &error);
    json_t *theirs =
        json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &their_error);
    if (status == 0 && !theirs)
        what = is_known_refusal(&their_error) ? NULL : "jansson refuses it";
    else if (status < 0 && theirs)
        what = is_known_leniency(&error, text, size) ? NULL : "only jansson takes it";
    else if (theirs)
        what = differs(&document, 0, theirs);
    json_decref(theirs);
    json_deinit(&document);
    return what;
}
