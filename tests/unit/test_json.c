#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "failing_malloc.h"
#include "json.h"
#include "json_oracle.h"
#include "samples.h"

static int parse(const char *text, struct json_error *ret_error)
{
    struct json_document document = {.text = NULL};
    int status = json_parse(&document, text, strlen(text), ret_error);
    json_deinit(&document);
    return status;
}

static void check_valid(void *arg, const char *path)
{
    size_t size;
    char *text = samples_read(path, &size);
    struct json_document *document = arg;
    struct json_error error;
    if (json_parse(document, text, size, &error) != 0)
        fail_msg("%s: %s at byte %u", path, error.text, error.offset);
    if (json_oracle_differs(text, size))
        fail_msg("%s: jansson differs in %s", path, json_oracle_differs(text, size));
    free(text);
}

static void check_invalid(void *arg, const char *path)
{
    size_t size;
    char *text = samples_read(path, &size);
    struct json_document *document = arg;
    struct json_error error = {.text = NULL};
    if (json_parse(document, text, size, &error) != JSON_INVALID)
        fail_msg("%s was taken", path);
    assert_non_null(error.text);
    assert_true(error.offset <= size);
    if (json_oracle_differs(text, size))
        fail_msg("%s: jansson differs: %s", path, json_oracle_differs(text, size));
    free(text);
}

static void every_sample_is_judged_as_jansson_does(void **state)
{
    struct json_document document = {.text = NULL};
    (void)state;
    assert_true(samples_each("events/valid", ".json", check_valid, &document) >= 10);
    assert_true(samples_each("events/invalid", ".json", check_invalid, &document) >= 30);
    json_deinit(&document);
}

/* Every single-byte change and every cut of a document that has everything. */
static void every_change_of_a_byte_is_judged_as_jansson_does(void **state)
{
    static const char whole[] =
        "{\"a\":[1,-2.5e+3,true,false,null],\"b\\u00e9\\n\":\"x\xc3\xa9\xf0\x9f\x98\x80\\ud83d\\ude00\","
        "\"sixteen bytes and more of plain text\":{}}";
    char text[sizeof whole];
    (void)state;
    for (size_t i = 0; i < sizeof whole - 1; i++) {
        for (int byte = 0; byte < 256; byte++) {
            memcpy(text, whole, sizeof whole);
            text[i] = (char)byte;
            const char *what = json_oracle_differs(text, sizeof whole - 1);
            if (what)
                fail_msg("byte %zu set to %d: jansson differs: %s", i, byte, what);
        }
        assert_null(json_oracle_differs(whole, i));
    }
}

static void a_string_is_scanned_alike_at_every_length(void **state)
{
    static const char stops[] = {'"', '\\', '\n', '\x1f', '\x7f', '\xc3', '\0'};
    char text[64];
    (void)state;
    for (size_t size = 0; size < 50; size++) {
        for (size_t i = 0; i < sizeof stops; i++) {
            memset(text, 'x', sizeof text);
            text[0] = '"';
            text[1 + size] = stops[i];
            text[2 + size] = '\xa9';
            text[3 + size] = '"';
            assert_null(json_oracle_differs(text, 4 + size));
            assert_null(json_oracle_differs(text, 2 + size));
        }
    }
}

static void errors_tell_where(void **state)
{
    struct json_error error;
    (void)state;
    assert_int_equal(parse("{\"a\":1,}", &error), JSON_INVALID);
    assert_int_equal(error.offset, 7);
    assert_string_equal(error.text, "expected a name in quotes");
    assert_int_equal(parse("[1 2]", &error), JSON_INVALID);
    assert_int_equal(error.offset, 3);
    assert_int_equal(parse("[\"ab\x80\"]", &error), JSON_INVALID);
    assert_int_equal(error.offset, 2);
    assert_string_equal(error.text, "a string is not UTF-8");
}

static void depth_and_size_are_bounded(void **state)
{
    struct json_document document = {.text = NULL};
    struct json_error error;
    char *text = malloc(JSON_SIZE_MAX + 1);
    (void)state;
    memset(text, ' ', JSON_SIZE_MAX + 1);
    text[0] = '1';
    assert_int_equal(json_parse(&document, text, JSON_SIZE_MAX, &error), 0);
    assert_int_equal(json_parse(&document, text, JSON_SIZE_MAX + 1, &error), JSON_INVALID);
    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    assert_int_equal(json_parse(&document, text, 2 * JSON_DEPTH_MAX, &error), 0);
    memset(text, '[', JSON_DEPTH_MAX + 1);
    memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    assert_int_equal(json_parse(&document, text, 2 * JSON_DEPTH_MAX + 2, &error), JSON_INVALID);
    assert_string_equal(error.text, "nested too deep");
    free(text);
    json_deinit(&document);
}

static void the_count_of_values_is_bounded(void **state)
{
    struct json_document document = {.text = NULL};
    struct json_error error;
    size_t size = 2 * (size_t)JSON_NODES_MAX + 1; /* an array of JSON_NODES_MAX elements: one node too many */
    char *text = malloc(size);
    (void)state;
    for (size_t i = 0; i < size; i++)
        text[i] = i % 2 ? '1' : ',';
    text[0] = '[';
    text[size - 1] = ']';
    assert_int_equal(json_parse(&document, text, size, &error), JSON_INVALID);
    assert_string_equal(error.text, "too many values");
    text[size - 3] = ']';
    assert_int_equal(json_parse(&document, text, size - 2, &error), 0);
    free(text);
    json_deinit(&document);
}

static void the_last_of_two_equal_names_counts(void **state)
{
    static const char text[] = "{\"id\":1,\"id\":2,\"\\u0069\\u0064\":3,\"x\":{\"id\":4}}";
    struct json_document document = {.text = NULL};
    struct json_error error;
    (void)state;
    assert_int_equal(json_parse(&document, text, sizeof text - 1, &error), 0);
    uint32_t id = json_member(&document, 0, "id", 2);
    assert_int_equal(text[document.nodes[id].start], '3');
    assert_int_equal(json_member(&document, 0, "i", 1), 0);
    assert_int_equal(json_member(&document, 0, "idx", 3), 0);
    assert_int_equal(json_member(&document, id, "id", 2), 0); /* a number has no members */
    json_deinit(&document);
}

static void want_of_memory_is_not_the_texts_fault(void **state)
{
    char text[512] = "[";
    struct json_document document = {.text = NULL};
    struct json_error error;
    bool has_failed;
    (void)state;
    for (int i = 0; i < 200; i++)
        strcat(text, "1,");
    strcat(text, "1]");
    for (long n = 0;; n++) {
        failing_malloc_arm(n);
        int status = json_parse(&document, text, strlen(text), &error);
        has_failed = failing_malloc_disarm();
        assert_int_equal(status, has_failed ? JSON_NO_MEMORY : 0);
        json_deinit(&document);
        if (!has_failed)
            break;
        assert_true(n < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sample_is_judged_as_jansson_does),
        cmocka_unit_test(every_change_of_a_byte_is_judged_as_jansson_does),
        cmocka_unit_test(a_string_is_scanned_alike_at_every_length),
        cmocka_unit_test(errors_tell_where),
        cmocka_unit_test(depth_and_size_are_bounded),
        cmocka_unit_test(the_count_of_values_is_bounded),
        cmocka_unit_test(the_last_of_two_equal_names_counts),
        cmocka_unit_test(want_of_memory_is_not_the_texts_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
