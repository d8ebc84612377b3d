/* The races of a cache, step by step, against a real Redis. Two caches in this process act as two services:
 * they share nothing but Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cache/cache.h>
#include <cmocka.h>

#include "cache_internal.h"
#include "scripts.h"
#include "support.h"

static struct redis_server redis;
static char *dir;
static cache *a, *b;

static cache *open_cache(void)
{
    cache *c;
    cache_options options = CACHE_OPTIONS_INIT;
    options.redis_url = redis.unix_url;
    options.lease_ms = 2000;
    options.xfetch_beta = 0;
    assert_int_equal(cache_create(&options, &c), CACHE_OK);
    assert_int_equal(cache_wait_current(c, 10000), CACHE_OK);
    return c;
}

static int setup(void **state)
{
    (void)state;
    dir = tmp_make();
    redis_start(&redis, dir, NULL);
    a = open_cache();
    b = open_cache();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cache_destroy(&a);
    cache_destroy(&b);
    redis_stop(&redis);
    tmp_remove(dir);
    return 0;
}

static cache_slice text(const char *bytes)
{
    return cache_slice_of(bytes, strlen(bytes));
}

/* What a loader gives, and what happens while it loads. */
struct play {
    const char *value, *tag;
    void (*meanwhile)(void);
    int calls;
};

static int play(cache_load *load, cache_slice key, void *arg)
{
    struct play *script = arg;
    (void)key;
    script->calls++;
    if (script->meanwhile)
        script->meanwhile();
    if (script->tag)
        cache_load_tag(load, text(script->tag));
    return cache_load_value(load, text(script->value));
}

/* Asks, and tells value and level as "l1 value". */
static const char *ask(cache *c, const char *key, struct play *script)
{
    static char answer[256];
    static const char *const levels[] = {"", "l1", "l2", "loader"};
    cache_value *value = NULL;
    int status = cache_get_or_load(c, text(key), play, script, &value);
    if (status != CACHE_OK)
        return cache_strerror(status);
    snprintf(answer, sizeof answer, "%s %s", levels[value->info.level], (const char *)value->data);
    cache_value_free(&value);
    return answer;
}

static const char *peek(cache *c, const char *key)
{
    static char answer[256];
    cache_value *value = NULL;
    int status = cache_get_value(c, text(key), &value);
    if (status != CACHE_OK)
        return cache_strerror(status);
    snprintf(answer, sizeof answer, "%s %s", value->info.level == CACHE_LEVEL_L1 ? "l1" : "l2",
             (const char *)value->data);
    cache_value_free(&value);
    return answer;
}

static uint64_t stat_of(cache *c, size_t offset)
{
    cache_stats stats = {.struct_size = sizeof stats};
    cache_get_stats(c, &stats);
    return *(const uint64_t *)((const char *)&stats + offset);
}
#define STAT(c, name) stat_of(c, offsetof(cache_stats, name))

static void wait_applied(cache *c)
{
    uint64_t seq = (uint64_t)redis_integer(&redis, "HGET evict:{main}:head seq");
    WAIT_FOR(5000, STAT(c, applied_seq) >= seq, "%llu of %llu evictions are applied",
             (unsigned long long)STAT(c, applied_seq), (unsigned long long)seq);
}

static void evict_key_from_b(void)
{
    assert_int_equal(cache_evict_key(b, text("key")), CACHE_OK);
}

static void evict_tag_from_b(void)
{
    assert_int_equal(cache_evict_tag(b, text("tag")), CACHE_OK);
}

/* load, invalidate, fill: the value goes to the caller, and is found nowhere afterwards */
static void expect_refused(struct play *script)
{
    assert_string_equal(ask(a, "key", script), "loader old");
    assert_int_equal(redis_integer(&redis, "EXISTS key"), 0);
    struct play fresh = {.value = "new"};
    assert_string_equal(ask(a, "key", &fresh), "loader new");
    assert_int_equal(STAT(a, fills_refused), 1);
    assert_string_equal(peek(b, "key"), "l2 new");
}

static void a_fill_after_its_keys_invalidation_is_refused(void **state)
{
    (void)state;
    struct play script = {.value = "old", .meanwhile = evict_key_from_b};
    expect_refused(&script);
}

static void a_fill_after_its_static_tags_invalidation_is_refused(void **state)
{
    (void)state;
    struct play before = {.value = "older", .tag = "tag"},
                script = {.value = "old", .tag = "tag", .meanwhile = evict_tag_from_b};
    assert_string_equal(ask(a, "key", &before), "loader older"); /* the tag set is known to Redis */
    evict_tag_from_b();
    wait_applied(a);
    expect_refused(&script);
}

static void a_fill_under_a_tag_only_the_loader_knew_is_refused(void **state)
{
    (void)state;
    struct play script = {.value = "old", .tag = "tag", .meanwhile = evict_tag_from_b};
    assert_int_equal(redis_integer(&redis, "EXISTS tag:tag"), 0);
    expect_refused(&script);
}

static void a_flush_meanwhile_refuses_too(void **state)
{
    (void)state;
    struct play script = {.value = "v"};
    assert_string_equal(ask(a, "key", &script), "loader v");
    assert_string_equal(peek(b, "key"), "l2 v");
    freeReplyObject(redis_cmd(&redis, "FLUSHALL"));
    WAIT_FOR(2000, strcmp(peek(a, "key"), "not cached") == 0, "a says %s", peek(a, "key"));
    WAIT_FOR(2000, strcmp(peek(b, "key"), "not cached") == 0, "b says %s", peek(b, "key"));
    assert_true(STAT(a, l1_clears) >= 1);
}

static void other_processes_drop_what_one_sets_and_the_setter_keeps_it(void **state)
{
    (void)state;
    struct play script = {.value = "one"};
    assert_string_equal(ask(a, "key", &script), "loader one");
    assert_string_equal(peek(b, "key"), "l2 one");
    assert_string_equal(peek(b, "key"), "l1 one");
    assert_int_equal(cache_set(a, text("key"), text("two"), NULL, 0, 0), CACHE_OK);
    wait_applied(b);
    assert_string_equal(peek(b, "key"), "l2 two");
    wait_applied(a);
    assert_string_equal(peek(a, "key"), "l1 two"); /* its own broadcast did not evict it */
}

static void evicting_by_tag_reaches_every_process(void **state)
{
    (void)state;
    struct play script = {.value = "v", .tag = "tag"};
    assert_string_equal(ask(a, "key", &script), "loader v");
    assert_string_equal(peek(b, "key"), "l2 v"); /* with its tags, out of the envelope */
    assert_int_equal(cache_evict_tag(a, text("tag")), CACHE_OK);
    assert_string_equal(peek(a, "key"), "not cached");
    wait_applied(b);
    assert_string_equal(peek(b, "key"), "not cached");
    assert_int_equal(redis_integer(&redis, "EXISTS key tag:tag"), 0);
}

/* However far this process lags behind the broadcasts. */
static void ones_own_eviction_is_seen_at_once(void **state)
{
    (void)state;
    cache_slice tag = text("tag");
    for (int i = 0; i < 200; i++) {
        assert_int_equal(cache_set(a, text("key"), text("v"), &tag, 1, 0), CACHE_OK);
        assert_int_equal(i % 2 ? cache_evict_key(a, text("key")) : cache_evict_tag(a, tag), CACHE_OK);
        assert_string_equal(peek(a, "key"), "not cached");
    }
}

/* --- writers --- */

static const char *stored;
static void (*while_storing)(void);

static int store(cache_slice key, cache_slice value, void *arg)
{
    (void)key;
    (void)arg;
    stored = value.data;
    if (while_storing) {
        void (*once)(void) = while_storing;
        while_storing = NULL;
        once();
    }
    return CACHE_OK;
}

static void write_two_from_b(void)
{
    assert_int_equal(cache_write(b, text("key"), text("two"), NULL, 0, 0, store, NULL), CACHE_OK);
}

static void read_old_from_b(void)
{
    struct play script = {.value = "old"};
    ask(b, "key", &script);
}

static void expect_nothing_or(const char *value)
{
    wait_applied(a);
    wait_applied(b);
    for (int i = 0; i < 2; i++) {
        const char *seen = peek(i ? a : b, "key");
        if (strcmp(seen, "not cached") != 0 && strcmp(seen + 3, value) != 0)
            fail_msg("%s sees \"%s\"", i ? "a" : "b", seen);
    }
}

static void of_two_writers_the_last_value_stays_or_nothing(void **state)
{
    (void)state;
    while_storing =
        write_two_from_b; /* b's whole write falls into a's: the database ends with what a stored... */
    assert_int_equal(cache_write(a, text("key"), text("one"), NULL, 0, 0, store, NULL), CACHE_OK);
    expect_nothing_or("neither can be known"); /* ...or with b's: nobody can tell */
    assert_int_equal(cache_write(a, text("key"), text("one"), NULL, 0, 0, store, NULL), CACHE_OK);
    assert_int_equal(cache_write(b, text("key"), text("two"), NULL, 0, 0, store, NULL), CACHE_OK);
    expect_nothing_or("two");
    assert_string_equal(peek(b, "key"), "l1 two");
}

static void a_readers_fill_within_a_write_does_not_survive_it(void **state)
{
    (void)state;
    while_storing = read_old_from_b;
    assert_int_equal(cache_write(a, text("key"), text("new"), NULL, 0, 0, store, NULL), CACHE_OK);
    expect_nothing_or("new");
}

static void write_while_loading(void)
{
    assert_int_equal(cache_write(b, text("key"), text("new"), NULL, 0, 0, store, NULL), CACHE_OK);
}

static void a_write_within_a_readers_load_wins(void **state)
{
    (void)state;
    struct play script = {.value = "old", .meanwhile = write_while_loading};
    assert_string_equal(ask(a, "key", &script), "loader old");
    expect_nothing_or("new");
}

static void a_write_whose_tag_was_evicted_meanwhile_stores_nothing(void **state)
{
    (void)state;
    cache_slice tag = text("tag");
    while_storing = evict_tag_from_b;
    assert_int_equal(cache_write(a, text("key"), text("v"), &tag, 1, 0, store, NULL), CACHE_OK);
    assert_string_equal(stored, "v");
    assert_string_equal(peek(a, "key"), "not cached");
}

static void a_write_reaches_redis_when_it_is_out_of_memory(void **state)
{
    (void)state;
    struct play script = {.value = "old"};
    assert_string_equal(ask(b, "key", &script), "loader old");
    assert_string_equal(peek(b, "key"), "l1 old");
    freeReplyObject(redis_cmd(&redis, "SET filler x"));
    freeReplyObject(redis_cmd(&redis, "CONFIG SET maxmemory 1"));
    stored = NULL;
    int status = cache_write(a, text("key"), text("new"), NULL, 0, 0, store, NULL);
    freeReplyObject(redis_cmd(&redis, "CONFIG SET maxmemory 0"));
    if (status == CACHE_E_REDIS && stored == NULL)
        return; /* refused before the database was touched: as good */
    expect_nothing_or("new");
}

static void a_set_leaves_other_types_alone(void **state)
{
    (void)state;
    cache_slice tag = text("wrong");
    freeReplyObject(redis_cmd(&redis, "RPUSH list x"));
    freeReplyObject(redis_cmd(&redis, "SET tag:wrong x"));
    assert_int_equal(cache_set(a, text("list"), text("v"), NULL, 0, 0), CACHE_E_TYPE);
    assert_int_equal(cache_set(a, text("key"), text("v"), &tag, 1, 0), CACHE_E_TYPE);
    assert_int_equal(redis_integer(&redis, "LLEN list"), 1);
    assert_int_equal(redis_integer(&redis, "EXISTS key"), 0);
    struct play script = {.value = "loaded"};
    assert_string_equal(ask(a, "list", &script), "loader loaded"); /* and is stored nowhere */
    assert_int_equal(redis_integer(&redis, "LLEN list"), 1);
}

/* --- a value of L2 that was read before an eviction and arrives after it --- */

static void a_raw_value_of_another_writer_stays_in_l1_no_longer_than_the_staleness_bound(void **state)
{
    (void)state;
    freeReplyObject(redis_cmd(&redis, "SET key plain EX 100"));
    freeReplyObject(redis_cmd(&redis, "SADD tag:tag key"));
    assert_string_equal(peek(a, "key"), "l2 plain");
    assert_int_equal(cache_evict_tag(b, text("tag")), CACHE_OK);
    WAIT_FOR(2000, strcmp(peek(a, "key"), "not cached") == 0, "a still says %s", peek(a, "key"));
}

/* Read from L2, then evicted, then copied to L1: the copy is refused. By the insides, to hold the step
 * between the two. */
static void a_copy_from_l2_to_l1_after_the_invalidation_is_refused(void **state)
{
    (void)state;
    struct play play = {.value = "old", .tag = "tag"};
    struct l1_meta meta = {.expires_ms = UINT64_MAX};
    struct l2_value value;
    cache_slice tag = text("tag");
    assert_string_equal(ask(b, "key", &play), "loader old");
    for (int by_tag = 0; by_tag < 2; by_tag++) {
        struct l1_token token = l1_token(a->l1);
        if (!by_tag)
            assert_int_equal(l2_get(a->l2, text("key"), &value), L2_OK);
        if (by_tag)
            evict_tag_from_b();
        else
            evict_key_from_b();
        wait_applied(a);
        assert_int_equal(l1_insert(a->l1, text("key"), text("old"), &tag, 1, &meta, token, 0), L1_REFUSED);
    }
    l2_value_release(&value);
    assert_string_equal(peek(a, "key"), "not cached");
}

/* --- lost messages --- */

static void fill_both(const char *key, const char *tag)
{
    struct play script = {.value = "v", .tag = tag};
    ask(a, key, &script);
    assert_string_equal(peek(b, key), "l2 v");
    assert_string_equal(peek(a, key), "l1 v");
    assert_string_equal(peek(b, key), "l1 v");
}

static void a_cut_connection_is_made_again_and_the_log_read(void **state)
{
    (void)state;
    fill_both("key", NULL);
    fill_both("kept", NULL);
    freeReplyObject(redis_cmd(&redis, "CLIENT KILL TYPE pubsub"));
    assert_int_equal(cache_evict_key(a, text("key")), CACHE_OK);
    WAIT_FOR(2000, strcmp(peek(b, "key"), "not cached") == 0, "b still says %s", peek(b, "key"));
    assert_string_equal(peek(b, "kept"), "l1 v");
    assert_int_equal(STAT(b, l1_clears), 0);
}

/* invalidate.lua with its PUBLISH taken out: logged and counted, but never heard. */
static void evict_unheard(const char *key)
{
    char *script = strdup(script_text[SCRIPT_INVALIDATE]), *publish = strstr(script, "redis.call('PUBLISH'"),
         rest[128];
    assert_non_null(publish);
    memset(publish, ' ', strcspn(publish, "\n"));
    snprintf(rest, sizeof rest, "\"keys\":[\"%s\"]}", key);
    redisReply *reply = redis_cmd(
        &redis,
        "EVAL %s 5 evict:{main}:head evict:{main}:fence:0 evict:{main}:fence:1 evict:{main}:log "
        "evict:{main}:applied epoch %s evict:{main} 1000 4096 1000 60000 %s %s 0 1 1 0 %s %s lease:{%s} %s",
        script, "", "", "", "\"main\"", key, key, rest);
    if (reply->type != REDIS_REPLY_ARRAY)
        fail_msg("%s", reply->str ? reply->str : "no array");
    freeReplyObject(reply);
    free(script);
}

static void a_suppressed_broadcast_is_replayed_from_the_log(void **state)
{
    (void)state;
    fill_both("key", NULL);
    fill_both("kept", NULL);
    evict_unheard("key");
    WAIT_FOR(2000, strcmp(peek(a, "key"), "not cached") == 0, "a still says %s", peek(a, "key"));
    WAIT_FOR(2000, strcmp(peek(b, "key"), "not cached") == 0, "b still says %s", peek(b, "key"));
    assert_string_equal(peek(a, "kept"), "l1 v");
    assert_true(STAT(a, replayed) >= 1);
    assert_int_equal(STAT(a, l1_clears), 0);
    assert_int_equal(STAT(b, l1_clears), 0);
}

static void a_log_that_no_longer_holds_the_missing_one_clears(void **state)
{
    (void)state;
    fill_both("key", NULL);
    evict_unheard("key");
    freeReplyObject(redis_cmd(&redis, "XTRIM evict:{main}:log MAXLEN 0"));
    WAIT_FOR(2000, strcmp(peek(a, "key"), "not cached") == 0, "a still says %s", peek(a, "key"));
    WAIT_FOR(2000, STAT(a, l1_clears) + STAT(a, replayed) >= 1, "neither cleared nor replayed");
}

/* --- Redis away --- */

static void a_frozen_redis_makes_l1_distrusted_in_time(void **state)
{
    (void)state;
    struct play script = {.value = "from the database"};
    fill_both("key", NULL);
    proc_signal(&redis.proc, SIGSTOP);
    WAIT_FOR(3000, STAT(a, l1_entries) && strncmp(ask(a, "key", &script), "loader", 6) == 0,
             "L1 still answers");
    proc_signal(&redis.proc, SIGCONT);
    assert_int_equal(cache_wait_current(a, 10000), CACHE_OK);
    WAIT_FOR(3000, strcmp(peek(a, "key"), "l1 v") == 0, "a says %s", peek(a, "key"));
}

static void it_works_without_redis_and_comes_back_by_itself(void **state)
{
    (void)state;
    struct play script = {.value = "v"};
    assert_string_equal(ask(a, "key", &script), "loader v");
    redis_kill(&redis);
    for (int i = 0; i < 3; i++)
        ask(a, "other", &script);
    assert_true(script.calls >= 2);
    redis_restart(&redis);
    assert_int_equal(cache_wait_current(a, 10000), CACHE_OK);
    WAIT_FOR(5000, strncmp(peek(a, "key"), "not cached", 10) == 0, "a says %s", peek(a, "key"));
    WAIT_FOR(5000, strcmp(ask(a, "third", &script), "l1 v") == 0, "a says %s", peek(a, "third"));
    assert_true(STAT(a, l1_clears) >= 1);
}

static void redis_may_never_have_been_there(void **state)
{
    (void)state;
    cache *c;
    cache_options options = CACHE_OPTIONS_INIT;
    struct play script = {.value = "v"};
    options.redis_url = "unix:///nonexistent/redis.sock";
    assert_int_equal(cache_create(&options, &c), CACHE_OK);
    assert_string_equal(ask(c, "key", &script), "loader v");
    assert_int_equal(cache_evict_key(c, text("key")), CACHE_E_REDIS);
    assert_int_equal(cache_wait_current(c, 50), CACHE_E_TIMEOUT);
    cache_destroy(&c);
    options.outage = CACHE_OUTAGE_SERVE; /* availability over freshness: L1 works alone */
    assert_int_equal(cache_create(&options, &c), CACHE_OK);
    assert_string_equal(ask(c, "key", &script), "loader v");
    assert_string_equal(ask(c, "key", &script), "l1 v");
    cache_destroy(&c);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_fill_after_its_keys_invalidation_is_refused),
        TEST(a_fill_after_its_static_tags_invalidation_is_refused),
        TEST(a_fill_under_a_tag_only_the_loader_knew_is_refused),
        TEST(a_flush_meanwhile_refuses_too),
        TEST(other_processes_drop_what_one_sets_and_the_setter_keeps_it),
        TEST(evicting_by_tag_reaches_every_process),
        TEST(ones_own_eviction_is_seen_at_once),
        TEST(of_two_writers_the_last_value_stays_or_nothing),
        TEST(a_readers_fill_within_a_write_does_not_survive_it),
        TEST(a_write_within_a_readers_load_wins),
        TEST(a_write_whose_tag_was_evicted_meanwhile_stores_nothing),
        TEST(a_write_reaches_redis_when_it_is_out_of_memory),
        TEST(a_set_leaves_other_types_alone),
        TEST(a_raw_value_of_another_writer_stays_in_l1_no_longer_than_the_staleness_bound),
        TEST(a_copy_from_l2_to_l1_after_the_invalidation_is_refused),
        TEST(a_cut_connection_is_made_again_and_the_log_read),
        TEST(a_suppressed_broadcast_is_replayed_from_the_log),
        TEST(a_log_that_no_longer_holds_the_missing_one_clears),
        TEST(a_frozen_redis_makes_l1_distrusted_in_time),
        TEST(it_works_without_redis_and_comes_back_by_itself),
        TEST(redis_may_never_have_been_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
