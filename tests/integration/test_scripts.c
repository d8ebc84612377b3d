/* lease.lua, store.lua and beat.lua, each alone against a real Redis; and what a glob means there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "glob.h"
#include "script_calls.h"

/* --- lease --- */

static void the_first_to_ask_gets_the_lease_and_the_others_hear_how_long(void **state)
{
    (void)state;
    struct answer first = lease_as("ask", "k", "t1"), second = lease_as("ask", "k", "t2");
    assert_string_equal(first.status, "granted");
    assert_int_equal(first.seq, 0);
    assert_string_equal(first.epoch, EPOCH);
    assert_string_equal(second.status, "held");
    assert_true(second.left_ms > 80000000 && second.left_ms <= 86400000);
    is_string("GET lease:{k}", "t1");
    assert_string_equal(lease_as("ask", "other", "t3").status, "granted");
}

static void a_value_is_handed_out_instead_of_a_lease(void **state)
{
    (void)state;
    run("SET k v");
    struct answer answer = lease_as("ask", "k", "t1");
    assert_string_equal(answer.status, "value");
    assert_string_equal(answer.value, "v");
    assert_int_equal(ask("EXISTS lease:{k}"), 0);
}

static void a_writer_takes_the_lease_over_value_and_holder(void **state)
{
    (void)state;
    run("SET k v");
    run("SET lease:{k} t1");
    assert_string_equal(lease_as("take", "k", "t2").status, "granted");
    is_string("GET lease:{k}", "t2");
    assert_true(ask("PTTL lease:{k}") > 0);
}

static void the_epoch_is_made_once(void **state)
{
    (void)state;
    run("HSET evict:{main}:head epoch older seq 41 fgen 0 fstart 0 floor 0 fsince 0");
    struct answer answer = lease_as("ask", "k", "t1");
    assert_int_equal(answer.seq, 41);
    assert_string_equal(answer.epoch, "older");
}

/* --- store --- */

static void a_fill_is_stored_with_its_tags_and_lets_go_of_its_lease(void **state)
{
    (void)state;
    int64_t seq = granted("k", "t1");
    struct answer answer = store((struct store){"k", "t1", "v", .seq = seq, .tags = {"a", "b"}});
    is_stored(answer);
    assert_int_equal(answer.seq, 0);
    is_string("GET k", "v");
    int64_t expiry = ask("PEXPIRETIME k");
    assert_true(expiry > 0);
    assert_int_equal(ask("ZSCORE tag:a k"), expiry);
    assert_int_equal(ask("ZSCORE tag:b k"), expiry);
    assert_int_equal(ask("ZSCORE evict:{main}:tags tag:a"), expiry);
    assert_int_equal(ask("TTL tag:a"), -1); /* under volatile-* policies it stays */
    assert_int_equal(ask("EXISTS lease:{k} evict:{main}:log"), 0);
}

/* Were the one computed a moment after the other, a member could go while its key is still there. */
static void a_member_expires_at_the_very_millisecond_of_its_key(void **state)
{
    (void)state;
    for (int i = 0; i < 10000; i++) {
        is_stored(store((struct store){"k", .tags = {"a"}}));
        assert_int_equal(ask("PEXPIRETIME k"), ask("ZSCORE tag:a k"));
        run("DEL tag:a");
    }
}

static void a_fill_without_its_lease_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    run("SET k old");
    is_refused(store((struct store){"k", "t1", "new", .tags = {"a"}}), "lease");
    run("SET lease:{k} t2");
    is_refused(store((struct store){"k", "t1", "new", .tags = {"a"}}), "lease");
    is_string("GET k", "old");
    is_string("GET lease:{k}", "t2");
    assert_int_equal(ask("EXISTS tag:a evict:{main}:tags"), 0);
}

static void a_fill_begun_before_its_tag_was_fenced_is_refused(void **state)
{
    (void)state;
    int64_t seq = granted("k", "t1");
    invalidate((struct step){.tags = {"a"}, .parts = {"\"tags\":[\"a\"]}"}});
    is_refused(store((struct store){"k", "t1", "v", .seq = seq, .tags = {"b", "a"}}), "fence");
    assert_int_equal(ask("EXISTS k lease:{k} tag:a tag:b"), 0);
    seq = granted("k", "t2");
    assert_int_equal(seq, 1);
    is_stored(store((struct store){"k", "t2", "v", .seq = seq, .tags = {"a"}}));
}

static void fences_of_both_generations_count(void **state)
{
    (void)state;
    for (int parity = 0; parity < 2; parity++) {
        int64_t seq = granted("k", "t1");
        redisReply *reply = redis_cmd(&server, "HSET evict:{main}:fence:%d tag:a %d", parity, (int)seq + 1);
        freeReplyObject(reply);
        is_refused(store((struct store){"k", "t1", .seq = seq, .tags = {"a"}}), "fence");
        run("FLUSHALL");
    }
}

static void a_fill_of_another_epoch_is_refused(void **state)
{
    (void)state;
    int64_t seq = granted("k", "t1");
    is_refused(store((struct store){"k", "t1", .seq = seq, .epoch = "older"}), "epoch");
    assert_int_equal(ask("EXISTS k lease:{k}"), 0);
}

static void a_fill_begun_before_the_floor_is_refused(void **state)
{
    (void)state;
    int64_t seq = granted("k", "t1");
    run("HSET evict:{main}:head floor 1");
    is_refused(store((struct store){"k", "t1", .seq = seq}), "fence");
    granted("k", "t1");
    is_stored(store((struct store){"k", "t1", .seq = 1}));
}

static void a_tag_set_of_another_type_refuses_before_anything_is_written(void **state)
{
    (void)state;
    int64_t seq = granted("k", "t1");
    run("SET tag:b text");
    is_refused(store((struct store){"k", "t1", .seq = seq, .tags = {"a", "b"}}), "tag");
    assert_int_equal(ask("EXISTS k tag:a"), 0);
    is_refused(store((struct store){"k", .tags = {"b"}}), "tag"); /* a set that asks nobody, too */
    is_string("GET tag:b", "text");
}

static void a_key_named_like_its_own_tag_set_is_refused(void **state)
{
    (void)state;
    is_refused(store((struct store){"tag:a", .tags = {"a"}}), "tag");
    is_stored(store((struct store){"k", .tags = {"a"}}));
    is_refused(store((struct store){"tag:a", .tags = {"a"}}), "tag");
    is_string("TYPE tag:a", "zset");
}

static void a_set_asks_nobody_and_ends_every_fill_of_its_key(void **state)
{
    (void)state;
    int64_t seq = granted("k", "t1");
    invalidate((struct step){.tags = {"a"}, .all = "all"});
    is_stored(store((struct store){"k", NULL, "set", .tags = {"a"}}));
    is_refused(store((struct store){"k", "t1", "fill", .seq = seq}), "lease");
    is_string("GET k", "set");
}

static void a_write_is_broadcast_in_the_same_step(void **state)
{
    char id[32], message[512];
    (void)state;
    struct answer taken = lease_as("take", "k", "t1");
    struct answer answer =
        store((struct store){"k", "t1", "v", .seq = taken.seq, .rest = "\"keys\":[\"k\"]}", .tags = {"a"}});
    is_stored(answer);
    assert_int_equal(answer.seq, 1);
    is_string("GET k", "v");
    is_string("HGET evict:{main}:head seq", "1");
    log_entry(0, id, message, sizeof message);
    assert_string_equal(id, "1-0");
    assert_string_equal(message,
                        "{\"v\":1,\"ns\":\"main\",\"epoch\":\"" EPOCH "\",\"seq\":1,\"keys\":[\"k\"]}");
}

static void a_refused_write_removes_the_key_and_is_broadcast_all_the_same(void **state)
{
    (void)state;
    struct answer taken = lease_as("take", "k", "t1");
    run("SET k old");
    invalidate((struct step){.tags = {"a"}, .parts = {"\"tags\":[\"a\"]}"}});
    struct answer answer =
        store((struct store){"k", "t1", "v", .seq = taken.seq, .rest = "\"keys\":[\"k\"]}", .tags = {"a"}});
    is_refused(answer, "fence");
    assert_int_equal(answer.seq, 2);
    assert_int_equal(ask("EXISTS k lease:{k}"), 0);
    assert_int_equal(ask("XLEN evict:{main}:log"), 2);
}

/* Which of two writers reached the database last, nobody knows once their leases have changed hands. */
static void of_two_writers_that_overlap_the_overtaken_one_stops_both(void **state)
{
    (void)state;
    int64_t seq = lease_as("take", "k", "t1").seq;
    assert_string_equal(lease_as("take", "k", "t2").status, "granted");
    run("SET k old");
    is_refused(store((struct store){"k", "t1", "first", .seq = seq, .rest = "\"keys\":[\"k\"]}"}), "lease");
    assert_int_equal(ask("EXISTS k lease:{k}"), 0);
    is_refused(store((struct store){"k", "t2", "second", .seq = seq, .rest = "\"keys\":[\"k\"]}"}), "lease");
    assert_int_equal(ask("EXISTS k"), 0);
}

static void a_plain_set_stays_plain_and_lasts_as_long_as_its_members(void **state)
{
    (void)state;
    run("SADD tag:short x");
    run("PEXPIRE tag:short 1000");
    run("SADD tag:long x");
    run("PEXPIRE tag:long 86400000");
    run("SADD tag:ever x");
    is_stored(store((struct store){"k", .tags = {"short", "long", "ever"}}));
    is_string("TYPE tag:short", "set");
    assert_int_equal(ask("SISMEMBER tag:short k") + ask("SISMEMBER tag:long k") + ask("SISMEMBER tag:ever k"),
                     3);
    assert_int_equal(ask("PEXPIRETIME tag:short"), ask("PEXPIRETIME k"));
    assert_true(ask("PTTL tag:long") > 80000000);
    assert_int_equal(ask("PTTL tag:ever"), -1);
    assert_int_equal(ask("EXISTS evict:{main}:tags"), 0);
}

static void a_sorted_set_with_a_time_to_live_is_kept_by_the_index_instead(void **state)
{
    (void)state;
    run("ZADD tag:a 99999999999999 x");
    run("PEXPIRE tag:a 86400000");
    run("ZADD tag:b 99999999999999 x");
    run("PEXPIRE tag:b 1000");
    int64_t gone = ask("PEXPIRETIME tag:a");
    is_stored(store((struct store){"k", .tags = {"a", "b"}}));
    assert_int_equal(ask("PTTL tag:a"), -1);
    assert_int_equal(ask("PTTL tag:b"), -1);
    int64_t indexed = ask("ZSCORE evict:{main}:tags tag:a");
    assert_true(indexed >= gone - 100 && indexed <= gone + 100);
    assert_int_equal(ask("ZSCORE evict:{main}:tags tag:b"), ask("PEXPIRETIME k"));
}

static void a_members_score_only_rises(void **state)
{
    (void)state;
    is_stored(store((struct store){"k", .ttl_ms = "90000", .tags = {"a"}}));
    int64_t later = ask("ZSCORE tag:a k");
    is_stored(store((struct store){"k", .ttl_ms = "1000", .tags = {"a"}}));
    assert_int_equal(ask("ZSCORE tag:a k"), later);
    is_stored(store((struct store){"k", .ttl_ms = "190000", .tags = {"a"}}));
    assert_true(ask("ZSCORE tag:a k") > later);
}

static void expired_members_are_pruned_as_others_come(void **state)
{
    (void)state;
    for (int i = 0; i < 25; i++)
        freeReplyObject(redis_cmd(&server, "ZADD tag:a %d old:%d", i + 1, i));
    run("ZADD tag:a 99999999999999 live");
    for (int i = 0; i < 3; i++)
        is_stored(store((struct store){"k", .tags = {"a"}}));
    assert_int_equal(ask("ZCARD tag:a"), 2);
    assert_int_equal(ask("ZSCORE tag:a live"), 99999999999999);
}

/* --- beat --- */

static void every_beat_counts_one_and_tells_the_head(void **state)
{
    int64_t seen[2];
    (void)state;
    beat(seen, "20");
    assert_int_equal(seen[0], 1);
    assert_int_equal(seen[1], 0);
    invalidate((struct step){.parts = {"\"flush\":true}"}});
    beat(seen, "20");
    assert_int_equal(seen[0], 2);
    assert_int_equal(seen[1], 1);
    beat_by(seen, "20", "0"); /* a subscriber looks only */
    assert_int_equal(seen[0], 2);
}

static void the_sweep_removes_dead_tag_sets_and_no_others(void **state)
{
    int64_t seen[2];
    (void)state;
    run("ZADD tag:dead 5 x 6 y");
    run("ZADD tag:live 5 x 99999999999999 y");
    run("SADD tag:plain x");
    run("SET tag:text x");
    run("ZADD tag:later 5 x");
    run("ZADD evict:{main}:tags 7 tag:dead 7 tag:live 7 tag:plain 7 tag:text 7 tag:gone 99999999999999 "
        "tag:later");
    beat(seen, "20");
    assert_int_equal(ask("EXISTS tag:dead"), 0);
    assert_int_equal(ask("EXISTS tag:live tag:plain tag:text tag:later"), 4);
    assert_int_equal(ask("ZCARD tag:live"), 2);
    assert_int_equal(ask("ZCARD evict:{main}:tags"), 2);
    assert_int_equal(ask("ZSCORE evict:{main}:tags tag:live"), 99999999999999);
    for (int i = 0; i < 30; i++)
        freeReplyObject(redis_cmd(&server, "ZADD evict:{main}:tags 7 tag:%d", i));
    beat(seen, "20");
    assert_int_equal(ask("ZCARD evict:{main}:tags"), 12); /* the work of one beat is bounded */
}

/* Redis keeps a key through the millisecond of its expiry; so long its member and its tag set must stay. */
static void nothing_is_pruned_or_swept_before_its_key_is_gone(void **state)
{
    enum { SPAN_MS = 400, CHECK_MS = 40 };
    redisReply *reply = redis_cmd(&server, "TIME");
    int64_t begin_ms =
        strtoll(reply->element[0]->str, NULL, 10) * 1000 + strtoll(reply->element[1]->str, NULL, 10) / 1000;
    unsigned checked = 0;
    (void)state;
    freeReplyObject(reply);
    for (int64_t ms = begin_ms; ms < begin_ms + SPAN_MS; ms++) {
        char text[256];
        snprintf(text, sizeof text, "ZADD tag:a %lld m%lld", (long long)ms, (long long)ms);
        run(text);
        snprintf(text, sizeof text, "ZADD tag:%lld %lld m", (long long)ms, (long long)ms);
        run(text);
        snprintf(text, sizeof text, "ZADD evict:{main}:tags %lld tag:%lld", (long long)ms, (long long)ms);
        run(text);
    }
    int64_t now_ms = begin_ms;
    while (now_ms < begin_ms + SPAN_MS - CHECK_MS) {
        is_stored(store((struct store){"k", .tags = {"a"}}));
        now_ms = ask("ZSCORE tag:a k") - 60000; /* of the script */
        if (now_ms >= begin_ms + SPAN_MS)
            break;
        assert_true(redis_integer(&server, "ZSCORE tag:a m%lld", (long long)now_ms) == now_ms);
        assert_true(redis_integer(&server, "EXISTS tag:%lld", (long long)now_ms) == 1);
        checked++;
    }
    assert_true(checked > 10);
    assert_true(redis_integer(&server, "EXISTS tag:%lld", (long long)begin_ms) == 0);
}

/* --- glob.c means what Redis means --- */

static unsigned dice(uint64_t *random, unsigned sides)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*random >> 33) % sides;
}

static void globs_mean_what_redis_says(void **state)
{
    uint64_t random = 4711;
    static const char alphabet[] = "ab*?[]^-\\\xe4\xff";
    char glob[8], text[4];
    unsigned matches = 0;
    (void)state;
    for (int i = 0; i < 20000; i++) {
        size_t glob_size = 1 + dice(&random, 1 + dice(&random, sizeof glob)),
               size = 1 + dice(&random, sizeof text);
        for (size_t j = 0; j < glob_size; j++)
            glob[j] = alphabet[dice(&random, sizeof alphabet - 1)];
        for (size_t j = 0; j < size; j++)
            text[j] = alphabet[dice(&random, i % 2 ? 2 : sizeof alphabet - 1)];
        freeReplyObject(redis_cmd(&server, "SET %b 1", text, size));
        redisReply *reply = redis_cmd(&server, "KEYS %b", glob, glob_size);
        bool is_match = glob_match(glob, glob_size, text, size);
        if (is_match != (reply->elements == 1))
            fail_msg("KEYS %.*s with %.*s: Redis says %zu", (int)glob_size, glob, (int)size, text,
                     reply->elements);
        matches += is_match;
        freeReplyObject(reply);
        freeReplyObject(redis_cmd(&server, "DEL %b", text, size));
    }
    assert_true(matches > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPTS_TEST(the_first_to_ask_gets_the_lease_and_the_others_hear_how_long),
        SCRIPTS_TEST(a_value_is_handed_out_instead_of_a_lease),
        SCRIPTS_TEST(a_writer_takes_the_lease_over_value_and_holder),
        SCRIPTS_TEST(the_epoch_is_made_once),
        SCRIPTS_TEST(a_fill_is_stored_with_its_tags_and_lets_go_of_its_lease),
        SCRIPTS_TEST(a_member_expires_at_the_very_millisecond_of_its_key),
        SCRIPTS_TEST(a_fill_without_its_lease_is_refused_and_changes_nothing),
        SCRIPTS_TEST(a_fill_begun_before_its_tag_was_fenced_is_refused),
        SCRIPTS_TEST(fences_of_both_generations_count),
        SCRIPTS_TEST(a_fill_of_another_epoch_is_refused),
        SCRIPTS_TEST(a_fill_begun_before_the_floor_is_refused),
        SCRIPTS_TEST(a_tag_set_of_another_type_refuses_before_anything_is_written),
        SCRIPTS_TEST(a_key_named_like_its_own_tag_set_is_refused),
        SCRIPTS_TEST(a_set_asks_nobody_and_ends_every_fill_of_its_key),
        SCRIPTS_TEST(a_write_is_broadcast_in_the_same_step),
        SCRIPTS_TEST(a_refused_write_removes_the_key_and_is_broadcast_all_the_same),
        SCRIPTS_TEST(of_two_writers_that_overlap_the_overtaken_one_stops_both),
        SCRIPTS_TEST(a_plain_set_stays_plain_and_lasts_as_long_as_its_members),
        SCRIPTS_TEST(a_sorted_set_with_a_time_to_live_is_kept_by_the_index_instead),
        SCRIPTS_TEST(a_members_score_only_rises),
        SCRIPTS_TEST(expired_members_are_pruned_as_others_come),
        SCRIPTS_TEST(every_beat_counts_one_and_tells_the_head),
        SCRIPTS_TEST(the_sweep_removes_dead_tag_sets_and_no_others),
        SCRIPTS_TEST(nothing_is_pruned_or_swept_before_its_key_is_gone),
        SCRIPTS_TEST(globs_mean_what_redis_says),
    };
    return cmocka_run_group_tests(tests, scripts_start, scripts_stop);
}
