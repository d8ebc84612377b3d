#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config.h"
#include "failing_malloc.h"
#include "rules.h"

/* What an event evicted: "rule key:name " or "rule tag:name " for each. */
static char evicted[4096];
static size_t matched;
static struct event_error error;

static int collect(void *arg, const struct rule *rule, const char *name, size_t size)
{
    size_t used = strlen(evicted);
    snprintf(evicted + used, sizeof evicted - used, "%s %s:%.*s ", rule_name(rule), (const char *)arg,
             (int)size, name);
    return 0;
}

static int on_key(void *arg, const struct rule *rule, const char *name, size_t size)
{
    (void)arg;
    return collect((void *)(uintptr_t) "key", rule, name, size);
}

static int on_tag(void *arg, const struct rule *rule, const char *name, size_t size)
{
    (void)arg;
    return collect((void *)(uintptr_t) "tag", rule, name, size);
}

static const struct rules_sink sink = {.key = on_key, .tag = on_tag};

static struct config *load(const char *text)
{
    struct config *config = NULL;
    assert_int_equal(config_load_text(text, stderr, &config), 0);
    return config;
}

static int apply_to(const struct config *config, const char *topic, const char *value)
{
    const struct event_header header = {"region", "eu", 2};
    struct event_source source = {.topic = topic,
                                  .key = "7",
                                  .key_size = 1,
                                  .value = value,
                                  .value_size = value ? strlen(value) : 0,
                                  .headers = &header,
                                  .headers_count = 1};
    struct rules_scratch *scratch = rules_scratch_create();
    const struct rules_for_topic *rules = rules_topic(config->rules, topic);
    evicted[0] = '\0';
    matched = 99;
    error = (struct event_error){.text = ""};
    assert_non_null(rules);
    int status = rules_apply(rules, &source, scratch, &sink, &matched, &error);
    rules_scratch_destroy(&scratch);
    return status;
}

/* Does a rule with this `when` match the event? */
static bool holds(const char *when, const char *value)
{
    char text[1024];
    snprintf(text, sizeof text,
             "rules = ( { name = \"r\"; topics = [ \"t\" ]; keys = [ \"k:${@key}\" ]; when = ( %s ); } );",
             when);
    struct config *config = load(text);
    assert_int_equal(apply_to(config, "t", value), 0);
    assert_string_equal(evicted, matched ? "r key:k:7 " : "");
    config_unload(&config);
    return matched == 1;
}

static void equals_compares_type_and_text(void **state)
{
    (void)state;
    assert_true(holds("{ field = \"a\"; equals = \"1\"; }", "{\"a\":\"1\"}"));
    assert_false(holds("{ field = \"a\"; equals = \"1\"; }", "{\"a\":1}"));
    assert_false(holds("{ field = \"a\"; equals = 1; }", "{\"a\":\"1\"}"));
    assert_true(holds("{ field = \"a\"; equals = 1; }", "{\"a\":1}"));
    assert_true(holds("{ field = \"a\"; equals = 1; }", "{\"a\":1.00}"));
    assert_false(holds("{ field = \"a\"; equals = 1; }", "{\"a\":1.01}"));
    assert_false(holds("{ field = \"a\"; equals = 1; }", "{\"a\":11}"));
    assert_false(holds("{ field = \"a\"; equals = 1; }", "{\"a\":-1}"));
    assert_false(holds("{ field = \"a\"; equals = 10; }", "{\"a\":1e1}"));
    assert_true(holds("{ field = \"a\"; equals = 0; }", "{\"a\":-0.0}"));
    assert_true(holds("{ field = \"a\"; equals = -9223372036854775807L; }", "{\"a\":-9223372036854775807}"));
    assert_true(holds("{ field = \"a\"; equals = true; }", "{\"a\":true}"));
    assert_false(holds("{ field = \"a\"; equals = true; }", "{\"a\":\"true\"}"));
    assert_false(holds("{ field = \"a\"; equals = true; }", "{\"a\":1}"));
    assert_true(holds("{ field = \"a\"; equals = false; }", "{\"a\":false}"));
    assert_false(holds("{ field = \"a\"; equals = false; }", "{\"b\":false}"));
    assert_true(holds("{ field = \"a\"; equals = \"caf\xc3\xa9\"; }", "{\"a\":\"caf\\u00e9\"}"));
}

static void in_takes_any_of_a_list(void **state)
{
    (void)state;
    assert_true(holds("{ field = \"op\"; in = [ \"c\", \"u\" ]; }", "{\"op\":\"u\"}"));
    assert_false(holds("{ field = \"op\"; in = [ \"c\", \"u\" ]; }", "{\"op\":\"d\"}"));
    assert_true(holds("{ field = \"op\"; in = ( \"c\", 3, true ); }", "{\"op\":3}"));
    assert_true(holds("{ field = \"op\"; in = ( \"c\", 3, true ); }", "{\"op\":true}"));
}

static void exists_means_there_and_not_null(void **state)
{
    (void)state;
    assert_true(holds("{ field = \"a.b\"; exists = true; }", "{\"a\":{\"b\":false}}"));
    assert_true(holds("{ field = \"a\"; exists = true; }", "{\"a\":{}}"));
    assert_false(holds("{ field = \"a.b\"; exists = true; }", "{\"a\":{\"b\":null}}"));
    assert_true(holds("{ field = \"a.b\"; exists = false; }", "{\"a\":1}"));
    assert_false(holds("{ field = \"a\"; exists = false; }", "{\"a\":1}"));
}

static void one_element_that_fits_is_enough(void **state)
{
    (void)state;
    assert_true(holds("{ field = \"l[*]\"; equals = \"b\"; }", "{\"l\":[\"a\",\"b\"]}"));
    assert_false(holds("{ field = \"l[*]\"; equals = \"b\"; }", "{\"l\":[]}"));
    assert_true(holds("{ field = \"l[*].x\"; exists = true; }", "{\"l\":[{},{\"x\":1}]}"));
    assert_true(holds("{ field = \"l[*].x\"; exists = false; }", "{\"l\":[{},{}]}"));
}

static void all_conditions_must_hold(void **state)
{
    static const char when[] = "{ field = \"a\"; equals = 1; }, { field = \"b\"; equals = 2; }";
    (void)state;
    assert_true(holds(when, "{\"a\":1,\"b\":2}"));
    assert_false(holds(when, "{\"a\":1,\"b\":3}"));
    assert_false(holds(when, "{\"a\":2,\"b\":2}"));
    assert_true(holds("", "{}"));
}

static void the_record_itself_can_be_tested(void **state)
{
    (void)state;
    assert_true(holds("{ field = \"@key\"; equals = \"7\"; }", "{}"));
    assert_false(holds("{ field = \"@key\"; equals = 7; }", "{}"));
    assert_true(holds("{ field = \"@topic\"; in = [ \"t\" ]; }", "{}"));
    assert_true(holds("{ field = \"@header.region\"; equals = \"eu\"; }", "{}"));
    assert_true(holds("{ field = \"@header.none\"; exists = false; }", "{}"));
}

static void tombstones_are_seen_only_on_request(void **state)
{
    (void)state;
    assert_false(holds("", NULL));
    assert_true(holds("{ tombstone = true; }", NULL));
    assert_false(holds("{ tombstone = true; }", "{}"));
    assert_false(holds("{ tombstone = true; }", "not even JSON")); /* and that is not its concern */
    assert_false(holds("{ tombstone = false; }", NULL));
    assert_true(holds("{ tombstone = false; }", "{}"));
    assert_false(holds("{ tombstone = true; }, { field = \"@key\"; equals = \"8\"; }", NULL));
}

static void rules_apply_in_file_order_keys_before_tags(void **state)
{
    struct config *config =
        load("rules = ("
             "{ name = \"b\"; topics = [ \"t\" ]; tags = [ \"x:${l[*]}\" ]; keys = [ \"1\", \"2\" ]; },"
             "{ name = \"no\"; topics = [ \"u\" ]; keys = [ \"3\" ]; },"
             "{ name = \"a\"; topics = [ \"u\", \"t\" ]; keys = [ \"1\" ]; } );");
    (void)state;
    assert_int_equal(apply_to(config, "t", "{\"l\":[7,8]}"), 0);
    assert_string_equal(evicted, "b key:1 b key:2 b tag:x:7 b tag:x:8 a key:1 ");
    assert_int_equal(matched, 2);
    config_unload(&config);
}

static void an_error_in_one_rule_leaves_nothing_of_the_event(void **state)
{
    struct config *config = load("rules = ("
                                 "{ name = \"good\"; topics = [ \"t\" ]; keys = [ \"k:${id}\" ]; },"
                                 "{ name = \"bad\"; topics = [ \"t\" ]; tags = [ \"x:${row.nope}\" ]; } );");
    (void)state;
    assert_int_equal(apply_to(config, "t", "{\"id\":1}"), -1);
    assert_string_equal(error.rule, "bad");
    assert_string_equal(error.text, "template \"x:${row.nope}\": field \"row.nope\" is missing or null");
    assert_string_equal(evicted, "");
    assert_int_equal(apply_to(config, "t", "{"), -1);
    assert_string_equal(error.rule, "good");
    assert_non_null(strstr(error.text, "not JSON"));
    config_unload(&config);
}

static void fan_out_is_bounded_over_all_rules(void **state)
{
    struct config *config = load("max_fan_out = 3; rules = ("
                                 "{ name = \"a\"; topics = [ \"t\" ]; keys = [ \"k:${l[*]}\" ]; },"
                                 "{ name = \"b\"; topics = [ \"t\" ]; tags = [ \"x\" ]; } );");
    (void)state;
    assert_int_equal(apply_to(config, "t", "{\"l\":[1,2]}"), 0);
    assert_int_equal(apply_to(config, "t", "{\"l\":[1,2,3]}"), -1);
    assert_string_equal(error.rule, "b");
    assert_string_equal(error.text, "template \"x\": yields too many names (max_fan_out)");
    config_unload(&config);
}

static void each_rule_reads_in_its_own_format(void **state)
{
    struct config *config =
        load("rules = ("
             "{ name = \"raw\"; topics = [ \"t\" ]; format = \"raw\"; keys = [ \"all\" ]; },"
             "{ name = \"gone\"; topics = [ \"t\" ]; keys = [ \"k:${@key}\" ]; when = ( { tombstone = true; "
             "} ); },"
             "{ name = \"ce\"; topics = [ \"u\" ]; format = \"cloudevents\"; keys = [ \"d:${data.id}\" ]; },"
             "{ name = \"js\"; topics = [ \"u\" ]; keys = [ \"t:${type}\" ]; } );");
    (void)state;
    assert_int_equal(apply_to(config, "t", "\xff not JSON"), 0);
    assert_string_equal(evicted, "raw key:all ");
    assert_int_equal(apply_to(config, "t", NULL), 0);
    assert_string_equal(evicted, "gone key:k:7 ");
    assert_int_equal(apply_to(config, "u",
                              "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\","
                              "\"data\":{\"id\":9}}"),
                     0);
    assert_string_equal(evicted, "ce key:d:9 js key:t:t ");
    config_unload(&config);
}

static void patterns_match_topics_from_their_start(void **state)
{
    struct config *config = load("rules = ("
                                 "{ name = \"p\"; topics = [ \"^blog\\\\.\" ]; keys = [ \"p\" ]; },"
                                 "{ name = \"e\"; topics = [ \"blog.posts\" ]; keys = [ \"e\" ]; } );");
    (void)state;
    assert_int_equal(apply_to(config, "blog.posts", "{}"), 0);
    assert_string_equal(evicted, "p key:p e key:e ");
    assert_int_equal(apply_to(config, "blog.users", "{}"), 0);
    assert_string_equal(evicted, "p key:p ");
    assert_null(rules_topic(config->rules, "my.blog.posts"));
    assert_null(rules_topic(config->rules, "blogs"));
    assert_ptr_equal(rules_topic(config->rules, "blog.posts"), rules_topic(config->rules, "blog.posts"));
    assert_int_equal(rules_topics_count(config->rules), 2);
    assert_string_equal(rules_topics_get(config->rules, 0), "^blog\\.");
    assert_string_equal(rules_topics_get(config->rules, 1), "blog.posts");
    config_unload(&config);
}

static int stop(void *arg, const struct rule *rule, const char *name, size_t size)
{
    (void)rule, (void)name, (void)size;
    return ++*(int *)arg == 2 ? 42 : 0;
}

static void a_sink_can_stop_the_delivery(void **state)
{
    int calls = 0;
    struct rules_sink stopping = {stop, stop, &calls};
    struct config *config =
        load("rules = ( { name = \"r\"; topics = [ \"t\" ]; keys = [ \"1\", \"2\", \"3\" ]; } );");
    struct event_source source = {.topic = "t", .value = "{}", .value_size = 2};
    struct rules_scratch *scratch = rules_scratch_create();
    (void)state;
    assert_int_equal(
        rules_apply(rules_topic(config->rules, "t"), &source, scratch, &stopping, &matched, &error), 42);
    assert_int_equal(calls, 2);
    rules_scratch_destroy(&scratch);
    config_unload(&config);
}

static void collect_glob(void *arg, const char *glob)
{
    strcat(strcat(arg, glob), " ");
}

static const char *const scoped =
    "rules = ("
    "{ name = \"a\"; topics = [ \"t\" ]; keys = [ \"post:${id}\", \"q?:${x}${y}:z\" ]; tags = [ "
    "\"l:${l[*]}\" ]; },"
    "{ name = \"b\"; topics = [ \"^t\" ]; keys = [ \"post:${other}\" ]; tags = [ \"all\" ]; },"
    "{ name = \"c\"; topics = [ \"u\" ]; keys = [ \"nope\" ]; } );";

static void the_scope_of_a_topic_covers_its_rules(void **state)
{
    char globs[512] = "";
    struct config *config = load(scoped);
    (void)state;
    rules_scope(config->rules, "t", "[tag]:", collect_glob, globs);
    assert_string_equal(globs, "post:* q\\?:*:z \\[tag\\]:l:* \\[tag\\]:all ");
    globs[0] = '\0';
    rules_scope(config->rules, "nothing", "tag:", collect_glob, globs);
    assert_string_equal(globs, "");
    config_unload(&config);
}

static void want_of_memory_widens_the_scope(void **state)
{
    struct config *config = load(scoped);
    bool has_failed = true;
    (void)state;
    for (long n = 0; has_failed; n++) {
        char globs[512] = "";
        failing_malloc_arm(n);
        rules_scope(config->rules, "t", "tag:", collect_glob, globs);
        has_failed = failing_malloc_disarm();
        assert_string_equal(globs, has_failed ? "* " : "post:* q\\?:*:z tag:l:* tag:all ");
    }
    config_unload(&config);
}

static void want_of_memory_is_not_the_events_fault(void **state)
{
    static const char value[] =
        "{\"id\":1,\"l\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20],\"x\":2,\"y\":3,"
        "\"other\":[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[]]}";
    const struct event_source source = {.topic = "t", .value = value, .value_size = sizeof value - 1};
    bool has_failed = true;
    (void)state;
    for (long n = 0; has_failed; n++) {
        struct config *config =
            load("rules = ( { name = \"a\"; topics = [ \"t\" ]; keys = [ \"post:${id}\" ];"
                 "tags = [ \"l:${l[*]}\", \"x\" ]; when = ( { field = \"id\"; equals = 1; } ); },"
                 "{ name = \"other\"; topics = [ \"u\" ]; keys = [ \"nope\" ]; } );");
        int status = EVENT_NO_MEMORY;
        evicted[0] = '\0';
        failing_malloc_arm(n);
        struct rules_scratch *scratch = rules_scratch_create();
        if (scratch)
            status = rules_apply(rules_topic(config->rules, "t"), &source, scratch, &sink, &matched, &error);
        has_failed = failing_malloc_disarm();
        if (status == 0) { /* the lookup of a topic does without memory */
            assert_int_equal(matched, 1);
            assert_memory_equal(evicted, "a key:post:1 a tag:l:1 ", 23);
        } else {
            assert_int_equal(status, EVENT_NO_MEMORY);
            assert_true(has_failed);
            assert_string_equal(evicted, "");
        }
        rules_scratch_destroy(&scratch);
        config_unload(&config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_compares_type_and_text),
        cmocka_unit_test(in_takes_any_of_a_list),
        cmocka_unit_test(exists_means_there_and_not_null),
        cmocka_unit_test(one_element_that_fits_is_enough),
        cmocka_unit_test(all_conditions_must_hold),
        cmocka_unit_test(the_record_itself_can_be_tested),
        cmocka_unit_test(tombstones_are_seen_only_on_request),
        cmocka_unit_test(rules_apply_in_file_order_keys_before_tags),
        cmocka_unit_test(an_error_in_one_rule_leaves_nothing_of_the_event),
        cmocka_unit_test(fan_out_is_bounded_over_all_rules),
        cmocka_unit_test(each_rule_reads_in_its_own_format),
        cmocka_unit_test(patterns_match_topics_from_their_start),
        cmocka_unit_test(a_sink_can_stop_the_delivery),
        cmocka_unit_test(the_scope_of_a_topic_covers_its_rules),
        cmocka_unit_test(want_of_memory_widens_the_scope),
        cmocka_unit_test(want_of_memory_is_not_the_events_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
