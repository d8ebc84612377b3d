/* Agents that die, and Redis that dies and comes back with all, some or none of its data: nothing stale
 * stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "world.h"

#define TOPIC      "blog.posts"
#define PARTITIONS 8
#define POSTS      2000
#define EVENTS     20000 /* ten for each post */
#define WAIT_MS    60000

static const char rules[] =
    "{ name = \"post-changed\"; topics = [ \"" TOPIC "\" ];\n"
    "  keys = [ \"post:${row.id}\" ]; tags = [ \"author:${row.author_id}:posts\" ]; }";

static struct world world;

static void open_world(const char *const redis_args[])
{
    world_open(&world, redis_args, rules, "");
    kafka_create_topic(&world.kafka, TOPIC, PARTITIONS);
    world_start_service(&world, 0);
    world_start_service(&world, 1);
}

static int teardown(void **state)
{
    (void)state;
    world_close(&world);
    return 0;
}

static void load_all(void)
{
    for (int s = 0; s < 2; s++)
        world_ask(&world, s, "load 0 %d", POSTS);
}

/* Events first..last-1; each of them evicts one post. */
static void produce(int first, int last)
{
    for (int i = first; i < last; i++) {
        char value[200], key[16];
        snprintf(key, sizeof key, "%d", i % POSTS);
        snprintf(value, sizeof value, "{\"row\":{\"id\":%d,\"author_id\":%d}}", i % POSTS, i % 500);
        kafka_produce_text(&world.kafka, TOPIC, key, value);
    }
    kafka_flush(&world.kafka);
}

static void wait_applied(int64_t events)
{
    WAIT_FOR(WAIT_MS, world_applied(&world) >= events, "%lld of %lld events are applied",
             (long long)world_applied(&world), (long long)events);
}

static int64_t posts_in_redis(void)
{
    int64_t count = 0;
    for (int i = 0; i < POSTS; i++)
        count += redis_integer(&world.redis, "EXISTS post:%d", i);
    return count;
}

static bool holds_any(int service)
{
    const char *held = world_ask(&world, service, "held 0 %d", POSTS);
    return strspn(held, "0") != strlen(held);
}

/* What every one of these tests ends with: all posts had an event, so none may be left anywhere. */
static void expect_nothing_left(void)
{
    assert_int_equal(posts_in_redis(), 0);
    for (int s = 0; s < 2; s++) {
        assert_string_equal(world_ask(&world, s, "wait"), "ok");
        WAIT_FOR(5000, !holds_any(s), "service %d still holds posts in L1", s);
    }
}

static void a_killed_agent_that_starts_again_leaves_nothing_behind(void **state)
{
    (void)state;
    open_world(NULL);
    load_all();
    produce(0, EVENTS);
    for (int i = 1; i <= 3; i++) {
        world_start_agent(&world, 0);
        wait_applied(i * EVENTS / 20);
        proc_kill(&world.agents[0]);
    }
    world_start_agent(&world, 0);
    wait_applied(EVENTS);
    expect_nothing_left();
}

static void of_two_agents_one_is_killed(void **state)
{
    (void)state;
    open_world(NULL);
    load_all();
    world_start_agent(&world, 0);
    world_start_agent(&world, 1);
    for (int i = 0; i < 2; i++)
        WAIT_FOR(WAIT_MS, world_log_has(&world, i, "what=\"reading\" partitions=4"),
                 "agent %d does not read its half", i);
    produce(0, EVENTS / 2);
    proc_kill(&world.agents[0]);
    produce(EVENTS / 2, EVENTS);
    wait_applied(EVENTS);
    expect_nothing_left();
}

static void redis_comes_back_with_all_its_data(void **state)
{
    (void)state;
    const char *const aof[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    open_world(aof);
    load_all();
    world_start_agent(&world, 0);
    produce(0, EVENTS / 2);
    wait_applied(EVENTS / 20);
    redis_kill(&world.redis);
    produce(EVENTS / 2, EVENTS);
    redis_restart(&world.redis);
    wait_applied(EVENTS);
    expect_nothing_left();
    assert_false(world_log_has(&world, 0, "redis had lost state"));
}

/* The snapshot holds the posts; all that evicted them came after it, and is committed in Kafka. */
static void redis_comes_back_from_an_old_snapshot(void **state)
{
    (void)state;
    const char *const rdb[] = {"--save", "", "--dbfilename", "dump.rdb", NULL};
    open_world(rdb);
    world_start_agent(&world, 0);
    produce(0, 800);
    wait_applied(800);
    load_all();
    freeReplyObject(redis_cmd(&world.redis, "SAVE"));
    produce(800, EVENTS);
    wait_applied(EVENTS);
    int64_t first, next;
    for (int p = 0; p < PARTITIONS; p++) {
        kafka_offsets(&world.kafka, TOPIC, p, &first, &next);
        WAIT_FOR(WAIT_MS, kafka_committed(&world.kafka, "evictd", TOPIC, p) == next,
                 "partition %d is not committed", p);
    }
    redis_kill(&world.redis);
    redis_restart(&world.redis);
    assert_int_equal(posts_in_redis(), POSTS); /* they are back, and stale */
    wait_applied(EVENTS);
    expect_nothing_left();
    assert_true(world_log_has(&world, 0, "redis had lost state"));
}

/* The same, but the agent was not there to see Redis fall back. */
static void an_agent_started_on_an_old_snapshot_rewinds(void **state)
{
    (void)state;
    const char *const rdb[] = {"--save", "", "--dbfilename", "dump.rdb", NULL};
    open_world(rdb);
    world_start_agent(&world, 0);
    produce(0, 800);
    wait_applied(800);
    load_all();
    freeReplyObject(redis_cmd(&world.redis, "SAVE"));
    produce(800, EVENTS);
    wait_applied(EVENTS);
    world_stop_agent(&world, 0);
    redis_kill(&world.redis);
    redis_restart(&world.redis);
    world_start_agent(&world, 0);
    wait_applied(EVENTS);
    expect_nothing_left();
}

static void redis_comes_back_empty(void **state)
{
    (void)state;
    open_world(NULL);
    load_all();
    world_start_agent(&world, 0);
    produce(0, EVENTS / 2);
    wait_applied(EVENTS / 20);
    redis_kill(&world.redis);
    produce(EVENTS / 2, EVENTS);
    redis_restart(&world.redis);
    wait_applied(EVENTS);
    expect_nothing_left();
}

/* Redis is away for longer than Kafka waits for a silent member: the agent keeps its partitions all the same.
 */
static void redis_away_costs_no_rebalance(void **state)
{
    (void)state;
    const char *const aof[] = {"--appendonly", "yes", NULL};
    open_world(aof);
    load_all();
    world_start_agent(&world, 0);
    produce(0, 1000);
    wait_applied(1000);
    redis_kill(&world.redis);
    produce(1000, EVENTS);
    const int64_t until = wait_now_ms() + 4000; /* twice the session's timeout */
    WAIT_FOR(10000, wait_now_ms() > until && world_log_has(&world, 0, "redis is away"),
             "the agent does not notice");
    redis_restart(&world.redis);
    wait_applied(EVENTS);
    expect_nothing_left();
    assert_false(world_log_has(&world, 0, "partitions revoked"));
}

static void the_broker_goes_away_and_comes_back(void **state)
{
    (void)state;
    open_world(NULL);
    load_all();
    world_start_agent(&world, 0);
    produce(0, EVENTS / 2);
    wait_applied(1000);
    kafka_kill(&world.kafka);
    WAIT_FOR(WAIT_MS, world_log_has(&world, 0, "kafka is in trouble"), "the agent does not notice");
    kafka_start(&world.kafka, world.kafka.dir);
    produce(EVENTS / 2, EVENTS);
    wait_applied(EVENTS);
    expect_nothing_left();
}

/* Thousands of records are fetched and not yet read when the stop comes. */
static void a_stop_under_load_ends_well_and_goes_on_later(void **state)
{
    (void)state;
    open_world(NULL);
    load_all();
    produce(0, EVENTS);
    for (int i = 0; i < 5; i++) {
        int64_t before = world_applied(&world);
        world_start_agent(&world, 0);
        WAIT_FOR(WAIT_MS, world_applied(&world) > before || world_applied(&world) == EVENTS,
                 "nothing is applied");
        world_stop_agent(&world, 0);
    }
    world_start_agent(&world, 0);
    wait_applied(EVENTS);
    expect_nothing_left();
}

static void it_stops_at_once_when_both_are_away(void **state)
{
    (void)state;
    open_world(NULL);
    world_start_agent(&world, 0);
    produce(0, 1000);
    wait_applied(1000);
    redis_kill(&world.redis);
    kafka_kill(&world.kafka);
    WAIT_FOR(WAIT_MS, world_log_has(&world, 0, "redis is away"), "the agent does not notice");
    world_stop_agent(&world, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_killed_agent_that_starts_again_leaves_nothing_behind, teardown),
        cmocka_unit_test_teardown(of_two_agents_one_is_killed, teardown),
        cmocka_unit_test_teardown(redis_comes_back_with_all_its_data, teardown),
        cmocka_unit_test_teardown(redis_comes_back_from_an_old_snapshot, teardown),
        cmocka_unit_test_teardown(an_agent_started_on_an_old_snapshot_rewinds, teardown),
        cmocka_unit_test_teardown(redis_comes_back_empty, teardown),
        cmocka_unit_test_teardown(redis_away_costs_no_rebalance, teardown),
        cmocka_unit_test_teardown(the_broker_goes_away_and_comes_back, teardown),
        cmocka_unit_test_teardown(a_stop_under_load_ends_well_and_goes_on_later, teardown),
        cmocka_unit_test_teardown(it_stops_at_once_when_both_are_away, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
