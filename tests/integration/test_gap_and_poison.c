/* Events that are gone, and events that cannot be handled: neither is ever passed over in silence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "world.h"

#define TOPIC   "blog.posts"
#define LETTERS "evictd.dead-letters"
#define WAIT_MS 60000

static const char rules[] =
    "{ name = \"post-changed\"; topics = [ \"" TOPIC "\" ]; keys = [ \"post:${row.id}\" ];\n"
    "  tags = [ \"author:${row.author_id}:posts\", \"label:${row.labels[*]}\" ];\n"
    "  when = ( { field = \"op\"; exists = true; } ); },\n"
    "{ name = \"post-erased\"; topics = [ \"" TOPIC
    "\" ]; when = ( { tombstone = true; } ); keys = [ \"post:${@key}\" ]; }";

static struct world world;

static void open_world(const char *more)
{
    world_open(&world, NULL, rules, more);
    kafka_create_topic(&world.kafka, TOPIC, 1);
    kafka_create_topic(&world.kafka, LETTERS, 1);
}

static int teardown(void **state)
{
    (void)state;
    world_close(&world);
    return 0;
}

static void send_value(const char *value)
{
    kafka_produce_text(&world.kafka, TOPIC, "k", value);
}

static void wait_applied(int64_t events)
{
    WAIT_FOR(WAIT_MS, world_applied(&world) >= events, "%lld of %lld events are applied",
             (long long)world_applied(&world), (long long)events);
}

static void a_retention_gap_flushes_the_scope_and_nothing_else(void **state)
{
    (void)state;
    char value[100];
    open_world("");
    world_start_service(&world, 0);
    for (int i = 0; i < 100; i++) {
        snprintf(value, sizeof value, "{\"op\":\"u\",\"row\":{\"id\":\"x%d\",\"author_id\":1,\"labels\":[]}}",
                 i);
        send_value(value);
    }
    kafka_flush(&world.kafka);
    world_start_agent(&world, 0);
    wait_applied(100);
    world_stop_agent(&world, 0);

    world_ask(&world, 0, "load 0 50");                     /* post:0 … with tags author:…, label:… */
    world_ask(&world, 0, "fetch page:home home label:7");  /* in scope through its tag only */
    world_ask(&world, 0, "fetch other:1 other other-tag"); /* out of scope */
    freeReplyObject(redis_cmd(&world.redis, "SET session:1 keep"));
    for (int i = 0; i < 100; i++)
        send_value("{\"op\":\"u\",\"row\":{\"id\":3,\"author_id\":1,\"labels\":[]}}");
    kafka_flush(&world.kafka);
    kafka_delete_records(&world.kafka, TOPIC, 0, 150);
    world_start_agent(&world, 0);
    wait_applied(200);

    assert_true(world_log_has(&world, 0, "retention gap"));
    assert_true(world_log_has(&world, 0, "flushing"));
    for (int i = 0; i < 50; i++)
        assert_int_equal(redis_integer(&world.redis, "EXISTS post:%d", i), 0);
    assert_int_equal(redis_integer(&world.redis, "EXISTS page:home tag:label:7"), 0);
    assert_int_equal(redis_integer(&world.redis, "EXISTS session:1 other:1 tag:other-tag"), 3);
    WAIT_FOR(5000, strcmp(world_ask(&world, 0, "get page:home"), "miss") == 0,
             "L1 still holds what the flush covers");
    assert_string_equal(world_ask(&world, 0, "get other:1"), "l1 other");

    world_ask(&world, 0, "load 0 1"); /* then normal work */
    send_value("{\"op\":\"u\",\"row\":{\"id\":0,\"author_id\":1,\"labels\":[]}}");
    kafka_flush(&world.kafka);
    wait_applied(201);
    assert_int_equal(redis_integer(&world.redis, "EXISTS post:0"), 0);
}

static void a_topic_made_anew_is_read_from_its_beginning(void **state)
{
    (void)state;
    open_world("");
    for (int i = 0; i < 50; i++)
        send_value("{\"op\":\"u\",\"row\":{\"id\":1,\"author_id\":1,\"labels\":[]}}");
    kafka_flush(&world.kafka);
    world_start_agent(&world, 0);
    wait_applied(50);
    world_stop_agent(&world, 0);
    kafka_delete_topic(&world.kafka, TOPIC);
    kafka_create_topic(&world.kafka, TOPIC, 1);
    freeReplyObject(redis_cmd(&world.redis, "SET post:5 stale"));
    send_value("{\"op\":\"u\",\"row\":{\"id\":7,\"author_id\":1,\"labels\":[]}}");
    kafka_flush(&world.kafka);
    world_start_agent(&world, 0);
    WAIT_FOR(WAIT_MS, world_applied(&world) == 1, "applied stands at %lld", (long long)world_applied(&world));
    assert_int_equal(redis_integer(&world.redis, "EXISTS post:5"), 0);
}

/* A copy: a message that is not given back would keep the broker's client from closing when an assertion
 * fails. */
struct letter {
    char key[16], value[8192], error[512], rule[64], topic[64], partition[16], offset[24], timestamp[24],
        trace[16];
};

static void copy_header(const rd_kafka_message_t *message, const char *name, char *out, size_t size)
{
    rd_kafka_headers_t *headers;
    const void *value = "";
    size_t value_size = 0;
    if (!rd_kafka_message_headers(message, &headers))
        rd_kafka_header_get_last(headers, name, &value, &value_size);
    snprintf(out, size, "%.*s", (int)value_size, (const char *)value);
}

static void read_letter(int64_t at, struct letter *ret_letter)
{
    rd_kafka_message_t *message = kafka_read(&world.kafka, LETTERS, 0, at, WAIT_MS);
    if (!message)
        fail_msg("there is no dead letter %lld", (long long)at);
    snprintf(ret_letter->key, sizeof ret_letter->key, "%.*s", (int)message->key_len,
             (const char *)message->key);
    snprintf(ret_letter->value, sizeof ret_letter->value, "%.*s", (int)message->len,
             (const char *)message->payload);
    copy_header(message, "evictd.error", ret_letter->error, sizeof ret_letter->error);
    copy_header(message, "evictd.rule", ret_letter->rule, sizeof ret_letter->rule);
    copy_header(message, "evictd.topic", ret_letter->topic, sizeof ret_letter->topic);
    copy_header(message, "evictd.partition", ret_letter->partition, sizeof ret_letter->partition);
    copy_header(message, "evictd.offset", ret_letter->offset, sizeof ret_letter->offset);
    copy_header(message, "evictd.timestamp", ret_letter->timestamp, sizeof ret_letter->timestamp);
    copy_header(message, "trace", ret_letter->trace, sizeof ret_letter->trace);
    rd_kafka_message_destroy(message);
}

static void expect_letter(int64_t at, const char *offset, const char *value, const char *error,
                          const char *trace)
{
    struct letter letter;
    read_letter(at, &letter);
    assert_string_equal(letter.key, "k");
    assert_string_equal(letter.value, value);
    assert_string_equal(letter.rule, "post-changed");
    assert_string_equal(letter.topic, TOPIC);
    assert_string_equal(letter.partition, "0");
    assert_string_equal(letter.offset, offset);
    assert_string_not_equal(letter.timestamp, "");
    assert_string_equal(letter.trace, trace); /* the original headers come along */
    if (!strstr(letter.error, error))
        fail_msg("the error of letter %lld is \"%s\"", (long long)at, letter.error);
}

static void poison_goes_to_the_dead_letters_and_the_rest_is_applied(void **state)
{
    (void)state;
    char wide[8192] = "{\"op\":\"u\",\"row\":{\"id\":1,\"author_id\":1,\"labels\":[0";
    for (int i = 1; i < 200; i++)
        snprintf(wide + strlen(wide), sizeof wide - strlen(wide), ",%d", i);
    strcat(wide, "]}}");
    open_world("max_fan_out = 100;");
    freeReplyObject(redis_cmd(&world.redis, "MSET post:1 a post:2 b post:3 c"));
    send_value("{\"op\":\"u\",\"row\":{\"id\":1,\"author_id\":1,\"labels\":[]}}");
    kafka_produce(&world.kafka, TOPIC, 0, "k", 1, "{\"op\":", 6, "trace", "abc", NULL); /* 1: undecodable */
    send_value("{\"op\":\"u\",\"row\":{\"id\":2,\"labels\":[]}}"); /* 2: a field is missing */
    send_value(wide);                                              /* 3: fan-out */
    send_value("{\"op\":\"u\",\"row\":{\"id\":2,\"author_id\":1,\"labels\":[\"c\"]}}");
    kafka_produce(&world.kafka, TOPIC, 0, "3", 1, NULL, 0, NULL); /* a tombstone */
    kafka_flush(&world.kafka);
    world_start_agent(&world, 0);
    wait_applied(6);
    assert_int_equal(redis_integer(&world.redis, "EXISTS post:1 post:2 post:3"), 0);
    expect_letter(0, "1", "{\"op\":", "not JSON", "abc");
    expect_letter(1, "2", "{\"op\":\"u\",\"row\":{\"id\":2,\"labels\":[]}}", "row.author_id", "");
    expect_letter(2, "3", wide, "max_fan_out", "");
    world_stop_agent(&world, 0);
    assert_int_equal(kafka_committed(&world.kafka, "evictd", TOPIC, 0), 6);
}

/* Not a gap, but the same danger: evictions free memory, so they must not wait for memory. */
static void redis_out_of_memory_still_evicts(void **state)
{
    (void)state;
    open_world("");
    freeReplyObject(redis_cmd(&world.redis, "SET post:1 a"));
    freeReplyObject(redis_cmd(&world.redis, "ZADD tag:author:4:posts 99999999999999 list:1"));
    freeReplyObject(redis_cmd(&world.redis, "SET list:1 a"));
    freeReplyObject(redis_cmd(&world.redis, "CONFIG SET maxmemory 1"));
    send_value("{\"op\":\"u\",\"row\":{\"id\":1,\"author_id\":4,\"labels\":[]}}");
    kafka_flush(&world.kafka);
    world_start_agent(&world, 0);
    wait_applied(1);
    assert_int_equal(redis_integer(&world.redis, "EXISTS post:1 list:1 tag:author:4:posts"), 0);
}

static void policy_skip_goes_on_without_a_letter(void **state)
{
    (void)state;
    int64_t first, next;
    open_world("dead_letter = { policy = \"skip\"; };");
    freeReplyObject(redis_cmd(&world.redis, "SET post:1 a"));
    send_value("not json");
    send_value("{\"op\":\"u\",\"row\":{\"id\":1,\"author_id\":1,\"labels\":[]}}");
    kafka_flush(&world.kafka);
    world_start_agent(&world, 0);
    wait_applied(2);
    assert_int_equal(redis_integer(&world.redis, "EXISTS post:1"), 0);
    kafka_offsets(&world.kafka, LETTERS, 0, &first, &next);
    assert_int_equal(next, 0);
    assert_true(world_log_has(&world, 0, "event cannot be handled"));
}

static void policy_stop_ends_before_the_event(void **state)
{
    (void)state;
    int code;
    open_world("dead_letter = { policy = \"stop\"; };");
    freeReplyObject(redis_cmd(&world.redis, "SET post:1 a"));
    send_value("{\"op\":\"u\",\"row\":{\"id\":1,\"author_id\":1,\"labels\":[]}}");
    send_value("not json");
    kafka_flush(&world.kafka);
    world_start_agent(&world, 0);
    assert_int_equal(proc_wait(&world.agents[0], WAIT_MS, &code), 0);
    assert_int_equal(code, 1);
    assert_int_equal(redis_integer(&world.redis, "EXISTS post:1"), 0); /* what came before it is done */
    assert_int_equal(kafka_committed(&world.kafka, "evictd", TOPIC, 0), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_retention_gap_flushes_the_scope_and_nothing_else, teardown),
        cmocka_unit_test_teardown(a_topic_made_anew_is_read_from_its_beginning, teardown),
        cmocka_unit_test_teardown(poison_goes_to_the_dead_letters_and_the_rest_is_applied, teardown),
        cmocka_unit_test_teardown(redis_out_of_memory_still_evicts, teardown),
        cmocka_unit_test_teardown(policy_skip_goes_on_without_a_letter, teardown),
        cmocka_unit_test_teardown(policy_stop_ends_before_the_event, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
