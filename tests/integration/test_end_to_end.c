/* The main job: events on Kafka evict exactly the right keys, in Redis and in the L1s of two service
 * processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "world.h"

#define TOPIC      "blog.posts"
#define PARTITIONS 8
#define POSTS      10000
#define AUTHORS    500
#define EVENTS     100000

/* Posts are evicted by key, authors' lists by tag. */
static const char rules[] = "{ name = \"post-changed\"; topics = [ \"" TOPIC "\" ]; format = \"json\";\n"
                            "  when = ( { field = \"op\"; in = [ \"c\", \"u\", \"d\" ]; } );\n"
                            "  keys = [ \"post:${row.id}\" ]; },\n"
                            "{ name = \"author-changed\"; topics = [ \"" TOPIC "\" ];\n"
                            "  when = ( { field = \"op\"; equals = \"a\"; } );\n"
                            "  tags = [ \"author:${row.author_id}:posts\" ]; }";

static struct world world;

static int setup(void **state)
{
    (void)state;
    world_open(&world, NULL, rules, "");
    kafka_create_topic(&world.kafka, TOPIC, PARTITIONS);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close(&world);
    return 0;
}

/* Which posts the events evict: every third one by key, and all of the first ten authors by tag. */
static bool is_evicted(int post)
{
    return post % 3 == 0 || post % AUTHORS < 10;
}

static void produce(int i)
{
    char value[400], key[16];
    const char *op = "u";
    int post = (i * 3) % (POSTS + 3 - POSTS % 3), author = post % AUTHORS;
    if (i % 10 == 0) {
        op = "x"; /* matches no rule */
        post = i;
    } else if (i % 10 == 1) {
        op = "a";
        author = i / 10 % 10;
    }
    snprintf(key, sizeof key, "%d", post);
    snprintf(value, sizeof value,
             "{\"op\":\"%s\",\"row\":{\"id\":%d,\"author_id\":%d,\"title\":\"caf\\u00e9 "
             "%d\"},\"labels\":[\"a\",\"b\"]}",
             op, post, author, i);
    kafka_produce_text(&world.kafka, TOPIC, key, value);
}

static int64_t produced_events(void)
{
    int64_t sum = 0, first, next;
    for (int p = 0; p < PARTITIONS; p++) {
        kafka_offsets(&world.kafka, TOPIC, p, &first, &next);
        sum += next;
    }
    return sum;
}

static bool hex_bit(const char *digits, int i)
{
    char text[2] = {digits[i / 4], '\0'};
    return strtol(text, NULL, 16) >> i % 4 & 1;
}

static void exactly_the_expected_keys_are_gone_everywhere(void **state)
{
    (void)state;
    for (int s = 0; s < 2; s++) {
        world_start_service(&world, s);
        world_ask(&world, s, "load 0 %d", POSTS);
    }
    assert_int_equal(redis_integer(&world.redis, "EXISTS post:0 post:1 post:9999"), 3);
    for (int i = 0; i < EVENTS; i++)
        produce(i);
    kafka_flush(&world.kafka);
    assert_int_equal(produced_events(), EVENTS);
    world_start_agent(&world, 0);
    WAIT_FOR(60000, world_applied(&world) == EVENTS, "%lld events are applied",
             (long long)world_applied(&world));

    for (int post = 0; post < POSTS; post++) {
        if (redis_integer(&world.redis, "EXISTS post:%d", post) != !is_evicted(post))
            fail_msg("post:%d is %s", post, is_evicted(post) ? "still in Redis" : "gone from Redis");
    }
    for (int author = 0; author < AUTHORS; author++)
        assert_int_equal(redis_integer(&world.redis, "EXISTS tag:author:%d:posts", author), author >= 10);

    long seq = (long)redis_integer(&world.redis, "HGET evict:{main}:head seq");
    for (int s = 0; s < 2; s++) {
        WAIT_FOR(5000, world_ask_number(&world, s, "stat applied_seq") >= seq,
                 "service %d has applied %ld of %ld", s, world_ask_number(&world, s, "stat applied_seq"),
                 seq);
        const char *held = world_ask(&world, s, "held 0 %d", POSTS);
        for (int post = 0; post < POSTS; post++) {
            if (hex_bit(held, post) == is_evicted(post))
                fail_msg("service %d: post:%d is %s", s, post,
                         is_evicted(post) ? "still in L1" : "gone from L1");
        }
        assert_int_equal(world_ask_number(&world, s, "stat l1_clears"), 0);
    }
}

static void offsets_are_committed_when_it_stops(void **state)
{
    (void)state;
    int64_t sum = 0, first, next;
    world_stop_agent(&world, 0);
    for (int p = 0; p < PARTITIONS; p++) {
        kafka_offsets(&world.kafka, TOPIC, p, &first, &next);
        assert_int_equal(kafka_committed(&world.kafka, "evictd", TOPIC, p), next);
        sum += next;
    }
    assert_int_equal(sum, EVENTS);
}

/* A service in any language, with redis-cli's means: SET, SADD, EXPIRE, SUBSCRIBE. */
static void a_plain_redis_client_is_served(void **state)
{
    (void)state;
    freeReplyObject(redis_cmd(&world.redis, "SET post:plain plain EX 3600"));
    freeReplyObject(redis_cmd(&world.redis, "SET list:plain plain EX 3600"));
    freeReplyObject(redis_cmd(&world.redis, "SADD tag:author:77777:posts list:plain"));
    freeReplyObject(redis_cmd(&world.redis, "EXPIRE tag:author:77777:posts 3600"));
    redisContext *subscriber = redisConnectUnix(world.redis.socket_path);
    redisSetTimeout(subscriber, (struct timeval){.tv_sec = 20});
    freeReplyObject(redisCommand(subscriber, "SUBSCRIBE evict:{main}"));
    world_start_agent(&world, 0);
    kafka_produce_text(&world.kafka, TOPIC, "1", "{\"op\":\"u\",\"row\":{\"id\":\"plain\"}}");
    kafka_produce_text(&world.kafka, TOPIC, "1", "{\"op\":\"a\",\"row\":{\"author_id\":77777}}");
    kafka_flush(&world.kafka);
    bool has_key = false, has_tag = false;
    while (!has_key || !has_tag) {
        void *any = NULL;
        if (redisGetReply(subscriber, &any) != REDIS_OK)
            fail_msg("no broadcast: key %d, tag %d", has_key, has_tag);
        redisReply *reply = any;
        assert_int_equal(reply->elements, 3);
        const char *message = reply->element[2]->str;
        has_key |= strstr(message, "\"keys\":[\"post:plain\"]") != NULL;
        has_tag |= strstr(message, "\"tags\":[\"author:77777:posts\"]") != NULL;
        assert_non_null(strstr(message, "\"v\":1"));
        freeReplyObject(reply);
    }
    redisFree(subscriber);
    assert_int_equal(redis_integer(&world.redis, "EXISTS post:plain list:plain tag:author:77777:posts"), 0);
    world_stop_agent(&world, 0);
}

static void purge_does_by_hand_what_an_event_would(void **state)
{
    (void)state;
    struct proc purge;
    const char *const argv[] = {EVICTD_PATH, "purge",   "-c", world.conf_path, "--tag", "author:11:posts",
                                "--key",     "post:10", NULL};
    int code;
    assert_int_equal(redis_integer(&world.redis, "EXISTS post:10 post:511 tag:author:11:posts"), 3);
    proc_spawn(&purge, argv, NULL);
    assert_int_equal(proc_wait(&purge, 5000, &code), 0);
    assert_int_equal(code, 0);
    assert_int_equal(redis_integer(&world.redis, "EXISTS post:10 post:511 tag:author:11:posts"), 0);
    for (int s = 0; s < 2; s++)
        WAIT_FOR(2000, strcmp(world_ask(&world, s, "get post:10"), "miss") == 0, "service %d has it still",
                 s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exactly_the_expected_keys_are_gone_everywhere),
        cmocka_unit_test(offsets_are_committed_when_it_stops),
        cmocka_unit_test(a_plain_redis_client_is_served),
        cmocka_unit_test(purge_does_by_hand_what_an_event_would),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
