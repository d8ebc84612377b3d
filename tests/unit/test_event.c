#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "event.h"
#include "samples.h"

struct decoder {
    struct json_document document;
    struct event event;
    struct event_error error;
};

static int decode(struct decoder *decoder, enum event_format format, const char *value)
{
    static struct event_source source;
    source = (struct event_source){.topic = "t", .value = value, .value_size = value ? strlen(value) : 0};
    decoder->error.text[0] = '\0';
    return event_decode(format, &source, &decoder->document, &decoder->event, &decoder->error);
}

static void json_yields_a_document(void **state)
{
    struct decoder d = {.event = {.source = NULL}};
    (void)state;
    assert_int_equal(decode(&d, FORMAT_JSON, "{\"id\":1}"), 0);
    assert_true(d.event.has_document);
    assert_false(d.event.is_tombstone);
    assert_int_not_equal(json_member(d.event.document, 0, "id", 2), 0);
    assert_int_equal(decode(&d, FORMAT_JSON, "7"), 0);
    json_deinit(&d.document);
}

static void a_value_that_is_not_json_is_an_error_with_its_place(void **state)
{
    struct decoder d = {.event = {.source = NULL}};
    (void)state;
    assert_int_equal(decode(&d, FORMAT_JSON, "{\"id\":}"), -1);
    assert_string_equal(d.error.text, "not JSON: not a JSON value, at byte 6");
    assert_int_equal(decode(&d, FORMAT_JSON, ""), -1); /* empty is not absent */
    json_deinit(&d.document);
}

static void a_tombstone_is_one_in_every_format(void **state)
{
    struct decoder d = {.event = {.source = NULL}};
    (void)state;
    for (enum event_format format = FORMAT_JSON; format <= FORMAT_RAW; format++) {
        assert_int_equal(decode(&d, format, NULL), 0);
        assert_true(d.event.is_tombstone);
        assert_false(d.event.has_document);
    }
}

static void raw_values_are_not_read(void **state)
{
    struct decoder d = {.event = {.source = NULL}};
    (void)state;
    assert_int_equal(decode(&d, FORMAT_RAW, "\xff{{{"), 0);
    assert_false(d.event.has_document);
    assert_false(d.event.is_tombstone);
}

static void a_cloudevent_needs_its_four_attributes(void **state)
{
    struct decoder d = {.event = {.source = NULL}};
    (void)state;
    assert_int_equal(decode(&d, FORMAT_CLOUDEVENTS,
                            "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}"),
                     0);
    assert_true(d.event.has_document);
    assert_int_equal(decode(&d, FORMAT_CLOUDEVENTS, "{\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}"), -1);
    assert_string_equal(d.error.text, "not a CloudEvent: \"specversion\" must be a non-empty string");
    assert_int_equal(
        decode(&d, FORMAT_CLOUDEVENTS, "{\"specversion\":\"1.0\",\"id\":1,\"source\":\"/s\",\"type\":\"t\"}"),
        -1);
    assert_string_equal(d.error.text, "not a CloudEvent: \"id\" must be a non-empty string");
    assert_int_equal(decode(&d, FORMAT_CLOUDEVENTS,
                            "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"\",\"type\":\"t\"}"),
                     -1);
    assert_string_equal(d.error.text, "not a CloudEvent: \"source\" must be a non-empty string");
    assert_int_equal(decode(&d, FORMAT_CLOUDEVENTS, "[1]"), -1);
    assert_string_equal(d.error.text, "not a CloudEvent: the value is no JSON object");
    json_deinit(&d.document);
}

static void refuse(void *arg, const char *path)
{
    struct decoder *d = arg;
    size_t size;
    char *text = samples_read(path, &size);
    struct event_source source = {.topic = "t", .value = text, .value_size = size};
    for (enum event_format format = FORMAT_JSON; format <= FORMAT_CLOUDEVENTS; format++) {
        d->error.text[0] = '\0';
        if (event_decode(format, &source, &d->document, &d->event, &d->error) != -1)
            fail_msg("%s was taken", path);
        assert_non_null(strstr(d->error.text, "not JSON: "));
        assert_null(d->error.rule);
    }
    free(text);
}

static void hostile_values_are_refused_with_a_text(void **state)
{
    struct decoder d = {.event = {.source = NULL}};
    (void)state;
    assert_true(samples_each("events/invalid", ".json", refuse, &d) >= 30);
    json_deinit(&d.document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_yields_a_document),
        cmocka_unit_test(a_value_that_is_not_json_is_an_error_with_its_place),
        cmocka_unit_test(a_tombstone_is_one_in_every_format),
        cmocka_unit_test(raw_values_are_not_read),
        cmocka_unit_test(a_cloudevent_needs_its_four_attributes),
        cmocka_unit_test(hostile_values_are_refused_with_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
