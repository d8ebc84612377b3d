#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "template.h"

static const struct event_header headers[] = {
    {"region", "eu", 2}, {"region", "us", 2}, {"empty", "", 0}, {"null", NULL, 0}, {"a.b c", "odd", 3}};
static char names[4096]; /* what a template yielded, joined by spaces */
static struct event_error error;

static int expand_limited(const char *text, const char *json, size_t max)
{
    struct template *template = NULL;
    struct template_output output = {.names = NULL};
    struct json_document document = {.text = NULL};
    struct event event;
    char reason[256];
    struct event_source source = {.topic = "blog.posts",
                                  .key = "k\0y",
                                  .key_size = 3,
                                  .value = json,
                                  .value_size = json ? strlen(json) : 0,
                                  .headers = headers,
                                  .headers_count = sizeof headers / sizeof *headers};
    if (template_compile(text, &template, reason, sizeof reason) < 0)
        fail_msg("%s: %s", text, reason);
    assert_int_equal(event_decode(FORMAT_JSON, &source, &document, &event, &error), 0);
    error.text[0] = '\0';
    int status = template_expand(template, &event, max, &output, &error);
    size_t used = 0;
    for (size_t i = 0; i < output.names_count && used + output.names[i].size + 1 < sizeof names; i++) {
        if (i > 0)
            names[used++] = ' ';
        memcpy(names + used, output.bytes + output.names[i].start, output.names[i].size);
        used += output.names[i].size;
    }
    names[used] = '\0';
    template_output_deinit(&output);
    template_destroy(&template);
    json_deinit(&document);
    return status;
}

static void expect(const char *text, const char *json, const char *expected)
{
    if (expand_limited(text, json, 1000) != 0)
        fail_msg("%s: %s", text, error.text);
    assert_string_equal(names, expected);
}

static void expect_error(const char *text, const char *json, const char *expected)
{
    assert_int_equal(expand_limited(text, json, 1000), -1);
    assert_string_equal(error.text, expected);
}

static void expect_no_compile(const char *text, const char *expected)
{
    struct template *template = NULL;
    char reason[256] = "";
    assert_int_equal(template_compile(text, &template, reason, sizeof reason), -1);
    assert_null(template);
    assert_string_equal(reason, expected);
}

static void scalars_stand_as_written(void **state)
{
    (void)state;
    expect("post:${row.id}", "{\"row\":{\"id\":17}}", "post:17");
    expect("${n}|${t}|${f}", "{\"n\":1.50e3,\"t\":true,\"f\":false}", "1.50e3|true|false");
    expect("${s}", "{\"s\":\"caf\\u00e9 \\ud83d\\ude00\"}", "caf\xc3\xa9 \xf0\x9f\x98\x80");
    expect("static", "{}", "static");
    expect("$$${id}$$", "{\"id\":1}", "$1$");
    expect("}{${id}", "{\"id\":1}", "}{1");
}

static void arrays_fan_out_and_multiply(void **state)
{
    (void)state;
    expect("label:${labels[*]}", "{\"labels\":[\"a\",\"b\",3]}", "label:a label:b label:3");
    expect("${items[*].id}", "{\"items\":[{\"id\":1},{\"id\":2}]}", "1 2");
    expect("${a[*]}-${b[*]}", "{\"a\":[1,2],\"b\":[3,4]}", "1-3 1-4 2-3 2-4");
    expect("${a[*][*]}", "{\"a\":[[1,2],[],[3]]}", "1 2 3");
    expect("${[*].id}", "[{\"id\":1},{\"id\":2}]", "1 2");
    expect("x:${labels[*]}", "{\"labels\":[]}", "");
    expect("${a[*]}${b[*]}", "{\"a\":[1,2],\"b\":[]}", "");
}

static void elements_are_reached_by_index(void **state)
{
    (void)state;
    expect("${items[0].id}${items[1].id}", "{\"items\":[{\"id\":1},{\"id\":2}]}", "12");
    expect_error("${items[2].id}", "{\"items\":[{\"id\":1},{\"id\":2}]}",
                 "template \"${items[2].id}\": field \"items[2].id\" is missing or null");
    expect_error("${items[0]}", "{\"items\":{\"0\":1}}",
                 "template \"${items[0]}\": field \"items[0]\" is missing or null");
}

static void odd_names_are_quoted(void **state)
{
    (void)state;
    expect("${data['a.b']}", "{\"data\":{\"a.b\":1}}", "1");
    expect("${['it\\'s'].x}", "{\"it's\":{\"x\":2}}", "2");
    expect("${['a}\\\\']}", "{\"a}\\\\\":3}", "3");
    expect("${['@key']}", "{\"@key\":4}", "4");
    expect("${['']}", "{\"\":5}", "5");
    expect("${caf\xc3\xa9}", "{\"caf\\u00e9\":6}", "6"); /* compared unescaped */
}

static void the_record_itself_can_be_named(void **state)
{
    (void)state;
    expect("${@topic}:${@header.region}:${@header.a.b c}", "{}",
           "blog.posts:us:odd"); /* the last header counts */
    assert_int_equal(expand_limited("${@key}", NULL, 10), 0);
    assert_memory_equal(names, "k\0y", 4);
    expect_error("${@header.none}", "{}",
                 "template \"${@header.none}\": field \"@header.none\" is missing or null");
    expect_error("${@header.null}", "{}",
                 "template \"${@header.null}\": field \"@header.null\" is missing or null");
}

static void what_is_no_scalar_is_an_error(void **state)
{
    (void)state;
    expect_error("${a.b}", "{\"a\":{}}", "template \"${a.b}\": field \"a.b\" is missing or null");
    expect_error("${a}", "{\"a\":null}", "template \"${a}\": field \"a\" is missing or null");
    expect_error("${a}", "{\"a\":{}}", "template \"${a}\": field \"a\" is an object");
    expect_error("${a}", "{\"a\":[1]}",
                 "template \"${a}\": field \"a\" is an array; [*] yields its elements");
    expect_error("${a[*]}", "{\"a\":1}", "template \"${a[*]}\": field \"a[*]\" is missing or null");
    expect_error("${a[*].id}", "{\"a\":[{\"id\":1},{}]}",
                 "template \"${a[*].id}\": field \"a[*].id\" is missing or null");
    expect_error("${a[*]}${b}", "{\"a\":[]}", "template \"${a[*]}${b}\": field \"b\" is missing or null");
    expect_error("${a}", NULL, "template \"${a}\": field \"a\" is missing or null"); /* a tombstone */
}

static void names_are_neither_empty_nor_too_long(void **state)
{
    char *json = malloc(NAME_SIZE_MAX + 10);
    (void)state;
    expect_error("${a}", "{\"a\":\"\"}", "template \"${a}\": yields an empty name");
    int size = sprintf(json, "{\"a\":\"");
    memset(json + size, 'x', NAME_SIZE_MAX - 1);
    strcpy(json + size + NAME_SIZE_MAX - 1, "\"}");
    assert_int_equal(expand_limited("k${a}", json, 10), 0);
    expect_error("kk${a}", json,
                 "template \"kk${a}\": yields a name of 65536 bytes; at most 65535 are allowed");
    free(json);
}

static void fan_out_is_bounded(void **state)
{
    (void)state;
    assert_int_equal(expand_limited("${a[*]}${a[*]}", "{\"a\":[1,2]}", 4), 0);
    assert_int_equal(expand_limited("${a[*]}${a[*]}", "{\"a\":[1,2]}", 3), -1);
    assert_string_equal(error.text, "template \"${a[*]}${a[*]}\": yields too many names (max_fan_out)");
    assert_int_equal(expand_limited("${a[*]}${b[*]}${a[*]}", "{\"a\":[1,2,3,4],\"b\":[]}", 1),
                     0); /* none at all */
}

static void the_bytes_of_an_event_are_bounded(void **state)
{
    char *json = malloc(100000);
    int size = sprintf(json, "{\"n\":[1");
    (void)state;
    for (int i = 1; i < 400; i++)
        size += sprintf(json + size, ",1");
    size += sprintf(json + size, "],\"a\":\"");
    memset(json + size, 'x', 60000);
    strcpy(json + size + 60000, "\"}");
    assert_int_equal(expand_limited("${a}${n[*]}", json, 1000), -1);
    assert_string_equal(error.text,
                        "template \"${a}${n[*]}\": the event's names come to more than 16777216 bytes");
    free(json);
}

static void compile_errors_name_the_column(void **state)
{
    char text[TEMPLATE_SIZE_MAX + 2];
    (void)state;
    expect_no_compile("", "column 1: empty; write a name");
    expect_no_compile("a${", "column 4: no field name; write odd ones as ['my field']");
    expect_no_compile("a${b", "column 2: ${ has no end; add the closing }");
    expect_no_compile("a${b.}", "column 6: no field name; write odd ones as ['my field']");
    expect_no_compile("a$b", "column 2: a lone $; write $$ for a dollar sign, ${path} for a value");
    expect_no_compile("a$", "column 2: a lone $; write $$ for a dollar sign, ${path} for a value");
    expect_no_compile("${a b}", "column 4: unexpected character; write odd names as ['my field']");
    expect_no_compile("${a[0}", "column 6: a step has no end; add ]");
    expect_no_compile("${a[-1]}", "column 5: unknown step; write [0], [*] or ['name']");
    expect_no_compile("${a[99999999999]}", "column 5: unknown step; write [0], [*] or ['name']");
    expect_no_compile("${a['b}", "column 5: a quoted name has no end; add '");
    expect_no_compile("${@}",
                      "column 3: unknown @name; write @key, @topic or @header.name, or a field as ['@name']");
    memset(text, 'x', sizeof text);
    text[TEMPLATE_SIZE_MAX + 1] = '\0';
    expect_no_compile(text, "column 4097: too long; shorten it");
    text[0] = '\0';
    for (int i = 0; i < TEMPLATE_PARTS_MAX + 1; i++)
        strcat(text, "${a}");
    expect_no_compile(text, "column 129: too many literals and paths; use fewer");
    strcpy(text, "${a");
    for (int i = 0; i < PATH_STEPS_MAX; i++)
        strcat(text, ".a");
    expect_no_compile(strcat(text, "}"), "column 68: too many steps; shorten the path");
}

static void a_glob_covers_what_the_template_yields(void **state)
{
    struct template *template = NULL;
    char reason[256];
    (void)state;
    assert_int_equal(template_compile("a*[${x}${y}]:$$?\\${z}", &template, reason, sizeof reason), 0);
    char *glob = template_glob(template);
    assert_string_equal(glob, "a\\*\\[*\\]:$\\?\\\\*");
    free(glob);
    template_destroy(&template);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_stand_as_written),
        cmocka_unit_test(arrays_fan_out_and_multiply),
        cmocka_unit_test(elements_are_reached_by_index),
        cmocka_unit_test(odd_names_are_quoted),
        cmocka_unit_test(the_record_itself_can_be_named),
        cmocka_unit_test(what_is_no_scalar_is_an_error),
        cmocka_unit_test(names_are_neither_empty_nor_too_long),
        cmocka_unit_test(fan_out_is_bounded),
        cmocka_unit_test(the_bytes_of_an_event_are_bounded),
        cmocka_unit_test(compile_errors_name_the_column),
        cmocka_unit_test(a_glob_covers_what_the_template_yields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
