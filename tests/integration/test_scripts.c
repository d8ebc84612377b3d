/* Each Lua script alone against a real Redis: what it answers, what it leaves behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "broadcast.h"
#include "connection.h"
#include "glob.h"
#include "invalidate.h"
#include "names.h"
#include "resp.h"
#include "support.h"

#define EPOCH   "epoch1"
#define CHANNEL "evict:{main}"
#define DAY_MS  "86400000"

static struct redis_server server;
static struct connection connection;
static struct names names;
static char *dir;

/* --- calling a script --- */

struct call {
    struct resp body;
    size_t count;
};

static void put_bytes(struct call *call, const void *data, size_t size)
{
    resp_bulk(&call->body, data, size);
    call->count++;
}

static void put(struct call *call, const char *text)
{
    put_bytes(call, text, strlen(text));
}

static void put_number(struct call *call, int64_t number)
{
    resp_number(&call->body, number);
    call->count++;
}

static void begin(struct call *call, enum script script, int64_t keys)
{
    resp_init(&call->body);
    call->count = 0;
    put(call, "EVALSHA");
    put(call, connection.sha[script]);
    put_number(call, keys);
}

static redisReply *send_out(const char *data, size_t size)
{
    void *reply = NULL;
    assert_int_equal(redisAppendFormattedCommand(connection.context, data, size), REDIS_OK);
    if (redisGetReply(connection.context, &reply) != REDIS_OK)
        fail_msg("no reply: %s", connection.context->errstr);
    return reply;
}

/* Sends the call and frees it. An error reply fails the test. */
static redisReply *finish(struct call *call)
{
    struct resp whole;
    resp_init(&whole);
    resp_array(&whole, call->count);
    resp_append(&whole, call->body.data, call->body.size);
    assert_false(call->body.has_failed || whole.has_failed);
    redisReply *reply = send_out(whole.data, whole.size);
    resp_deinit(&whole);
    resp_deinit(&call->body);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("the script failed: %s", reply->str);
    return reply;
}

struct answer {
    char status[16], why[16], epoch[EPOCH_SIZE], value[64];
    int64_t seq, left_ms;
};

static void copy(char *out, size_t size, const redisReply *reply)
{
    assert_int_equal(reply->type, REDIS_REPLY_STRING);
    snprintf(out, size, "%s", reply->str);
}

/* --- lease.lua --- */

static struct answer lease_as(const char *mode, const char *key, const char *token)
{
    struct answer answer = {.seq = -1};
    struct call call;
    char lease[128];
    begin(&call, SCRIPT_LEASE, 3);
    put(&call, names.head);
    put(&call, key);
    put_bytes(&call, lease, names_lease(&names, key, strlen(key), lease));
    put(&call, EPOCH);
    put(&call, token);
    put(&call, DAY_MS);
    put(&call, mode);
    redisReply *reply = finish(&call);
    copy(answer.status, sizeof answer.status, reply->element[0]);
    if (strcmp(answer.status, "granted") == 0) {
        answer.seq = reply->element[1]->integer;
        copy(answer.epoch, sizeof answer.epoch, reply->element[2]);
    } else if (strcmp(answer.status, "value") == 0) {
        copy(answer.value, sizeof answer.value, reply->element[1]);
    } else {
        answer.left_ms = reply->element[1]->integer;
    }
    freeReplyObject(reply);
    return answer;
}

static int64_t granted(const char *key, const char *token)
{
    struct answer answer = lease_as("ask", key, token);
    assert_string_equal(answer.status, "granted");
    return answer.seq;
}

/* --- store.lua --- */

struct store {
    const char *key, *token, *value;
    int64_t seq;
    const char *epoch; /* NULL: EPOCH */
    const char *ttl_ms; /* NULL: a minute */
    const char *rest;  /* of the broadcast; NULL: a fill */
    const char *tags[8];
};

static struct answer store(struct store s)
{
    struct answer answer = {.seq = -1};
    struct call call;
    char lease[128], tag[80];
    int tags = 0;
    while (s.tags[tags])
        tags++;
    begin(&call, SCRIPT_STORE, 7 + tags);
    put(&call, names.head);
    put(&call, names.fence[0]);
    put(&call, names.fence[1]);
    put(&call, names.tags);
    put(&call, names.log);
    put(&call, s.key);
    put_bytes(&call, lease, names_lease(&names, s.key, strlen(s.key), lease));
    for (int i = 0; i < tags; i++) {
        snprintf(tag, sizeof tag, "tag:%s", s.tags[i]);
        put(&call, tag);
    }
    put(&call, EPOCH);
    put(&call, s.token ? s.token : "");
    put_number(&call, s.seq);
    put(&call, s.epoch ? s.epoch : EPOCH);
    put(&call, s.value ? s.value : "value");
    put(&call, s.ttl_ms ? s.ttl_ms : "60000");
    put(&call, s.rest ? CHANNEL : "");
    put(&call, s.rest ? s.rest : "");
    put(&call, "1000");
    put(&call, names.ns_json);
    redisReply *reply = finish(&call);
    copy(answer.status, sizeof answer.status, reply->element[0]);
    bool is_stored = strcmp(answer.status, "stored") == 0;
    if (!is_stored)
        copy(answer.why, sizeof answer.why, reply->element[1]);
    answer.seq = reply->element[is_stored ? 1 : 2]->integer;
    copy(answer.epoch, sizeof answer.epoch, reply->element[is_stored ? 2 : 3]);
    freeReplyObject(reply);
    return answer;
}

static void is_stored(struct answer answer)
{
    if (strcmp(answer.status, "stored") != 0)
        fail_msg("refused: %s", answer.why);
}

static void is_refused(struct answer answer, const char *why)
{
    assert_string_equal(answer.status, "refused");
    assert_string_equal(answer.why, why);
}

/* --- invalidate.lua, with limits of the test's own --- */

struct step {
    const char *expected_epoch, *members, *all;
    int64_t budget, log_length, fences, age_ms; /* 0: the daemon's */
    const char *tags[8], *keys[8], *parts[4];
    struct {
        const char *field;
        int64_t from, next;
    } partitions[4];
};

static size_t count_of(const char *const list[])
{
    size_t count = 0;
    while (list[count])
        count++;
    return count;
}

static redisReply *invalidate_reply(const struct step *step, size_t first_tag)
{
    struct call call;
    char text[128];
    size_t tags = count_of(step->tags), keys = count_of(step->keys), parts = count_of(step->parts), partitions = 0;
    while (partitions < 4 && step->partitions[partitions].field)
        partitions++;
    begin(&call, SCRIPT_INVALIDATE, 5);
    put(&call, names.head);
    put(&call, names.fence[0]);
    put(&call, names.fence[1]);
    put(&call, names.log);
    put(&call, names.applied);
    put(&call, EPOCH);
    put(&call, step->expected_epoch ? step->expected_epoch : "");
    put(&call, CHANNEL);
    put_number(&call, step->budget ? step->budget : INVALIDATE_MEMBERS_MAX);
    put_number(&call, step->log_length ? step->log_length : 1000);
    put_number(&call, step->fences ? step->fences : FENCES_MAX);
    put_number(&call, step->age_ms ? step->age_ms : FENCES_AGE_MS);
    put(&call, step->members ? step->members : "");
    put(&call, step->all ? step->all : "");
    put_number(&call, (int64_t)(tags - first_tag));
    put_number(&call, (int64_t)keys);
    put_number(&call, (int64_t)parts);
    put_number(&call, (int64_t)partitions);
    put(&call, names.ns_json);
    for (size_t i = first_tag; i < tags; i++) {
        snprintf(text, sizeof text, "tag:%s", step->tags[i]);
        put(&call, text);
    }
    for (size_t i = 0; i < keys; i++) {
        put(&call, step->keys[i]);
        put_bytes(&call, text, names_lease(&names, step->keys[i], strlen(step->keys[i]), text));
    }
    for (size_t i = 0; i < parts; i++)
        put(&call, step->parts[i]);
    for (size_t i = 0; i < partitions; i++) {
        put(&call, step->partitions[i].field);
        put_number(&call, step->partitions[i].from);
        put_number(&call, step->partitions[i].next);
    }
    return finish(&call);
}

static struct invalidate_result invalidate_once(const struct step *step, size_t first_tag)
{
    struct invalidate_result result;
    redisReply *reply = invalidate_reply(step, first_tag);
    invalidate_decode(reply, first_tag, &result);
    freeReplyObject(reply);
    assert_true(result.status != INVALIDATE_BAD);
    return result;
}

static struct invalidate_result invalidate(struct step step)
{
    struct invalidate_result result = invalidate_once(&step, 0);
    assert_int_equal(result.status, INVALIDATE_DONE);
    return result;
}

/* --- what is in Redis --- */

static int64_t ask(const char *command)
{
    return redis_integer(&server, command);
}

static void is_string(const char *command, const char *expected)
{
    redisReply *reply = redis_cmd(&server, command);
    if (!expected ? reply->type != REDIS_REPLY_NIL : reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS)
        fail_msg("%s: another type: %s", command, reply->str ? reply->str : "(none)");
    if (expected)
        assert_string_equal(reply->str, expected);
    freeReplyObject(reply);
}

static void run(const char *command)
{
    redisReply *reply = redis_cmd(&server, command);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", command, reply->str);
    freeReplyObject(reply);
}

/* The i-th entry of the log: its id and message. */
static void log_entry(size_t i, char *id, char *message, size_t size)
{
    redisReply *reply = redis_cmd(&server, "XRANGE evict:{main}:log - +");
    assert_int_equal(reply->type, REDIS_REPLY_ARRAY);
    assert_true(i < reply->elements);
    snprintf(id, 32, "%s", reply->element[i]->element[0]->str);
    assert_int_equal(reply->element[i]->element[1]->elements, 2);
    assert_string_equal(reply->element[i]->element[1]->element[0]->str, "m");
    snprintf(message, size, "%s", reply->element[i]->element[1]->element[1]->str);
    freeReplyObject(reply);
}

static int start_all(void **state)
{
    struct redis_url url;
    char error[256];
    (void)state;
    dir = tmp_make();
    redis_start(&server, dir, NULL);
    assert_int_equal(redis_url_parse(server.unix_url, &url, error, sizeof error), 0);
    if (connection_open(&connection, &url, 10000, (1u << SCRIPTS_COUNT) - 1) < 0)
        fail_msg("%s", connection.error);
    assert_int_equal(strlen(connection.run_id), 40);
    assert_false(connection.is_replica || connection.has_maxmemory);
    return names_init(&names, "main", "tag:", "lease:");
}

static int stop_all(void **state)
{
    (void)state;
    connection_close(&connection);
    redis_stop(&server);
    names_deinit(&names);
    tmp_remove(dir);
    return 0;
}

static int empty(void **state)
{
    (void)state;
    run("FLUSHALL");
    return 0;
}

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
    struct answer answer = store((struct store){"k", "t1", "v", .seq = taken.seq, .rest = "\"keys\":[\"k\"]}", .tags = {"a"}});
    is_stored(answer);
    assert_int_equal(answer.seq, 1);
    is_string("GET k", "v");
    is_string("HGET evict:{main}:head seq", "1");
    log_entry(0, id, message, sizeof message);
    assert_string_equal(id, "1-0");
    assert_string_equal(message, "{\"v\":1,\"ns\":\"main\",\"epoch\":\"" EPOCH "\",\"seq\":1,\"keys\":[\"k\"]}");
}

static void a_refused_write_removes_the_key_and_is_broadcast_all_the_same(void **state)
{
    (void)state;
    struct answer taken = lease_as("take", "k", "t1");
    run("SET k old");
    invalidate((struct step){.tags = {"a"}, .parts = {"\"tags\":[\"a\"]}"}});
    struct answer answer = store((struct store){"k", "t1", "v", .seq = taken.seq, .rest = "\"keys\":[\"k\"]}", .tags = {"a"}});
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
    assert_int_equal(ask("SISMEMBER tag:short k") + ask("SISMEMBER tag:long k") + ask("SISMEMBER tag:ever k"), 3);
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

static void beat_by(int64_t ret[2], const char *limit, const char *by)
{
    struct call call;
    begin(&call, SCRIPT_BEAT, 2);
    put(&call, names.head);
    put(&call, names.tags);
    put(&call, EPOCH);
    put(&call, limit);
    put(&call, by);
    redisReply *reply = finish(&call);
    assert_int_equal(reply->elements, 3);
    assert_string_equal(reply->element[1]->str, EPOCH);
    ret[0] = reply->element[0]->integer;
    ret[1] = reply->element[2]->integer;
    freeReplyObject(reply);
}

static void beat(int64_t ret[2], const char *limit)
{
    beat_by(ret, limit, "1");
}

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
    run("ZADD evict:{main}:tags 7 tag:dead 7 tag:live 7 tag:plain 7 tag:text 7 tag:gone 99999999999999 tag:later");
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
    int64_t begin_ms = strtoll(reply->element[0]->str, NULL, 10) * 1000 + strtoll(reply->element[1]->str, NULL, 10) / 1000;
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

/* --- invalidate --- */

static void keys_tag_members_and_leases_go_in_one_numbered_step(void **state)
{
    char id[32], message[512];
    (void)state;
    run("MSET k1 v k2 v m1 v m2 v m3 v other v user:{7}:x v");
    run("MSET lease:{k1} t lease:{k2} t lease:{7}:user:{7}:x t lease:{other} t");
    run("ZADD tag:a 99999999999999 m1 99999999999999 m2");
    run("SADD tag:b m3");
    redisContext *subscriber = redisConnectUnix(server.socket_path);
    redisReply *reply = redisCommand(subscriber, "SUBSCRIBE " CHANNEL);
    freeReplyObject(reply);
    struct invalidate_result result = invalidate((struct step){
        .tags = {"a", "b", "none"}, .keys = {"k1", "k2", "absent", "user:{7}:x"}, .parts = {"\"keys\":[\"k1\"]}", "\"flush\":true}"}});
    assert_int_equal(result.members, 3);
    assert_int_equal(result.keys, 6);
    assert_int_equal(result.seq, 2);
    assert_string_equal(result.epoch, EPOCH);
    assert_int_equal(ask("EXISTS k1 k2 m1 m2 m3 tag:a tag:b user:{7}:x lease:{k1} lease:{k2} lease:{7}:user:{7}:x"), 0);
    assert_int_equal(ask("EXISTS other lease:{other}"), 2);
    is_string("HGET evict:{main}:head seq", "2");
    is_string("HGET evict:{main}:fence:0 tag:a", "1");
    is_string("HGET evict:{main}:fence:0 tag:none", "1");
    for (size_t i = 0; i < 2; i++) { /* what is published is what is logged, under the id of its seq */
        static const char *const ids[] = {"1-0", "2-0"};
        log_entry(i, id, message, sizeof message);
        assert_string_equal(id, ids[i]);
        assert_int_equal(redisGetReply(subscriber, (void **)&reply), REDIS_OK);
        assert_string_equal(reply->element[1]->str, CHANNEL);
        assert_string_equal(reply->element[2]->str, message);
        freeReplyObject(reply);
    }
    assert_string_equal(message, "{\"v\":1,\"ns\":\"main\",\"epoch\":\"" EPOCH "\",\"seq\":2,\"flush\":true}");
    redisFree(subscriber);
}

static void what_the_encoder_sends_the_script_understands(void **state)
{
    (void)state;
    struct invalidate_result result;
    struct resp resp;
    struct broadcast_writer *writer = broadcast_writer_create();
    const struct invalidate_slice tags[] = {{"a", 1}, {"b\0\xff", 3}}, keys[] = {{"k\r\n", 3}};
    const struct invalidate_partition partition = {"g/t/0", -1, 12345678901};
    assert_non_null(writer);
    assert_int_equal(broadcast_writer_add(writer, BROADCAST_KEYS, keys[0].data, 3), 0);
    assert_int_equal(broadcast_writer_finish(writer), 0);
    const struct invalidate_call call = {.new_epoch = EPOCH, .expected_epoch = "", .log_length = 10, .tags = tags, .tags_count = 2,
                                         .keys = keys, .keys_count = 1, .broadcast = writer, .partitions = &partition,
                                         .partitions_count = 1};
    freeReplyObject(redis_cmd(&server, "SADD tag:b%b m", "\0\xff", (size_t)2));
    freeReplyObject(redis_cmd(&server, "MSET m v %b v", "k\r\n", (size_t)3));
    resp_init(&resp);
    invalidate_encode(&resp, connection.sha[SCRIPT_INVALIDATE], &names, &call, 0);
    redisReply *reply = send_out(resp.data, resp.size);
    invalidate_decode(reply, 0, &result);
    assert_int_equal(result.status, INVALIDATE_DONE);
    assert_int_equal(result.members + result.keys, 2);
    is_string("HGET evict:{main}:applied g/t/0", "12345678901");
    freeReplyObject(reply);
    resp_deinit(&resp);
    broadcast_writer_destroy(&writer);
}

#define MANY 1000000

/* Members go by the thousand: no call may hold Redis for longer. */
static void invalidate_many(const char *add, const char *score)
{
    struct step step = {.tags = {"first", "big"}, .keys = {"named"}, .parts = {"\"tags\":[\"big\"]}"}};
    struct resp resp;
    uint64_t members = 0, calls = 0;
    resp_init(&resp);
    for (int i = 0; i < MANY;) {
        char member[24];
        resp_clear(&resp);
        resp_array(&resp, 2 + 10000 * (score ? 2 : 1));
        resp_text(&resp, add);
        resp_text(&resp, "tag:big");
        for (int end = i + 10000; i < end; i++) {
            if (score)
                resp_text(&resp, score);
            snprintf(member, sizeof member, "m:%d", i);
            resp_text(&resp, member);
        }
        freeReplyObject(send_out(resp.data, resp.size));
    }
    resp_deinit(&resp);
    run("MSET m:0 v m:999999 v named v");
    struct invalidate_result result = {.next_tag = 0};
    do {
        assert_int_equal(ask("EXISTS named"), 1); /* the last call does the rest */
        assert_int_equal(ask("EXISTS evict:{main}:log"), 0);
        result = invalidate_once(&step, result.next_tag);
        assert_true(result.members <= INVALIDATE_MEMBERS_MAX);
        members += result.members;
        calls++;
        if (result.status == INVALIDATE_MORE)
            assert_int_equal(result.next_tag, 1);
    } while (result.status == INVALIDATE_MORE);
    assert_int_equal(result.status, INVALIDATE_DONE);
    assert_int_equal(members, MANY);
    assert_int_equal(calls, MANY / INVALIDATE_MEMBERS_MAX);
    assert_int_equal(result.seq, 1);
    assert_int_equal(ask("EXISTS tag:big m:0 m:999999 named"), 0);
}

static void a_sorted_set_of_a_million_members_goes_in_bounded_steps(void **state)
{
    (void)state;
    invalidate_many("ZADD", "99999999999999");
}

static void a_plain_set_of_a_million_members_goes_in_bounded_steps(void **state)
{
    (void)state;
    invalidate_many("SADD", NULL);
}

static void several_tags_share_the_budget_of_a_call(void **state)
{
    struct step step = {.budget = 3, .tags = {"a", "b", "none", "c"}, .keys = {"k"}, .parts = {"\"tags\":[\"a\"]}"}};
    (void)state;
    run("ZADD tag:a 1 a1 1 a2");
    run("ZADD tag:b 1 b1 1 b2 1 b3");
    run("SADD tag:c c1 c2");
    struct invalidate_result result = invalidate_once(&step, 0);
    assert_int_equal(result.status, INVALIDATE_MORE);
    assert_int_equal(result.next_tag, 1);
    assert_int_equal(result.members, 3);
    assert_int_equal(ask("EXISTS tag:a") + ask("ZCARD tag:b"), 2);
    result = invalidate_once(&step, result.next_tag);
    assert_int_equal(result.status, INVALIDATE_MORE);
    assert_int_equal(result.next_tag, 3);
    assert_int_equal(ask("SCARD tag:c"), 1);
    result = invalidate_once(&step, result.next_tag);
    assert_int_equal(result.status, INVALIDATE_DONE);
    assert_int_equal(result.seq, 1);
}

static void a_tag_of_another_type_is_counted_and_left_alone(void **state)
{
    (void)state;
    run("SET tag:a text");
    run("HSET tag:b f v");
    assert_int_equal(invalidate((struct step){.tags = {"a", "b", "c"}}).foreign, 2);
    assert_int_equal(ask("EXISTS tag:a tag:b"), 2);
}

/* --- applied offsets and epochs --- */

static void a_batch_that_does_not_continue_is_not_applied(void **state)
{
    struct step step = {.tags = {"a"}, .keys = {"k"}, .parts = {"\"flush\":true}"}, .partitions = {{"g/t/0", 5, 9}, {"g/t/1", -1, 3}}};
    (void)state;
    run("SET k v");
    run("SADD tag:a m");
    struct invalidate_result result = invalidate_once(&step, 0);
    assert_int_equal(result.status, INVALIDATE_BEHIND);
    assert_int_equal(result.applied, -1);
    run("HSET evict:{main}:applied g/t/0 4");
    result = invalidate_once(&step, 0);
    assert_int_equal(result.status, INVALIDATE_BEHIND);
    assert_int_equal(result.applied, 4);
    assert_int_equal(ask("EXISTS k tag:a"), 2);
    assert_int_equal(ask("EXISTS evict:{main}:fence:0 evict:{main}:log"), 0);
    is_string("HGET evict:{main}:head seq", "0");
    run("HSET evict:{main}:applied g/t/0 5");
    assert_int_equal(invalidate_once(&step, 0).status, INVALIDATE_DONE);
    is_string("HGET evict:{main}:applied g/t/0", "9");
    is_string("HGET evict:{main}:applied g/t/1", "3");
}

static void applied_offsets_only_rise(void **state)
{
    (void)state;
    run("HSET evict:{main}:applied g/t/0 9007199254740990 g/t/1 7");
    invalidate((struct step){.partitions = {{"g/t/0", 5, 9}, {"g/t/1", 7, 8}}}); /* a replay is harmless */
    is_string("HGET evict:{main}:applied g/t/0", "9007199254740990");
    is_string("HGET evict:{main}:applied g/t/1", "8");
}

static void a_batch_may_span_any_number_of_partitions(void **state)
{
    struct invalidate_partition *partitions = calloc(10000, sizeof *partitions);
    const struct invalidate_call call = {.new_epoch = EPOCH, .expected_epoch = "", .log_length = 10, .partitions = partitions,
                                         .partitions_count = 10000};
    struct invalidate_result result;
    struct resp resp;
    (void)state;
    assert_non_null(partitions);
    for (int i = 0; i < 10000; i++) {
        char field[32];
        snprintf(field, sizeof field, "g/t/%d", i);
        partitions[i] = (struct invalidate_partition){strdup(field), -1, i + 1};
    }
    resp_init(&resp);
    invalidate_encode(&resp, connection.sha[SCRIPT_INVALIDATE], &names, &call, 0);
    redisReply *reply = send_out(resp.data, resp.size);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s", reply->str);
    invalidate_decode(reply, 0, &result);
    assert_int_equal(result.status, INVALIDATE_DONE);
    assert_int_equal(ask("HLEN evict:{main}:applied"), 10000);
    is_string("HGET evict:{main}:applied g/t/9999", "10000");
    for (int i = 0; i < 10000; i++)
        free((char *)(uintptr_t)partitions[i].field);
    free(partitions);
    resp_deinit(&resp);
    freeReplyObject(reply);
}

static void a_batch_meant_for_another_epoch_is_not_applied(void **state)
{
    struct step step = {.expected_epoch = "older", .keys = {"k"}, .partitions = {{"g/t/0", -1, 3}}};
    (void)state;
    run("SET k v");
    struct invalidate_result result = invalidate_once(&step, 0);
    assert_int_equal(result.status, INVALIDATE_EPOCH);
    assert_string_equal(result.epoch, EPOCH);
    assert_int_equal(ask("EXISTS k"), 1);
    assert_int_equal(ask("EXISTS evict:{main}:applied"), 0);
    step.expected_epoch = EPOCH;
    assert_int_equal(invalidate_once(&step, 0).status, INVALIDATE_DONE);
}

/* --- broadcasts and the log --- */

static void count_key(void *arg, const void *key, size_t size)
{
    size_t *seen = arg;
    (void)key;
    assert_true(size > 0);
    (*seen)++;
}

/* Every message of the log is one that a reader takes. @return the keys they name */
static size_t read_log(size_t *ret_messages)
{
    struct json_document document = {.text = NULL};
    struct broadcast broadcast;
    size_t keys = 0;
    const struct broadcast_handler handler = {.key = count_key, .arg = &keys};
    redisReply *reply = redis_cmd(&server, "XRANGE evict:{main}:log - +");
    for (size_t i = 0; i < reply->elements; i++) {
        const redisReply *message = reply->element[i]->element[1]->element[1];
        if (broadcast_parse(&document, message->str, message->len, "main", &broadcast) < 0)
            fail_msg("a reader refuses %zu bytes: %.200s", message->len, message->str);
        assert_int_equal(broadcast.seq, strtoull(reply->element[i]->element[0]->str, NULL, 10));
        assert_int_equal(broadcast_visit(&document, &handler), 0);
    }
    *ret_messages = reply->elements;
    freeReplyObject(reply);
    json_deinit(&document);
    return keys;
}

static void deleted_members_are_broadcast_on_request(void **state)
{
    size_t messages;
    (void)state;
    run("SADD tag:a plain \"with\\\\quote\" \xc3\xa4");
    freeReplyObject(redis_cmd(&server, "SADD tag:a %b", "\0\x01\"/\x7f", (size_t)5));
    invalidate((struct step){.members = "members", .tags = {"a"}, .parts = {"\"tags\":[\"a\"]}"}});
    assert_int_equal(read_log(&messages), 3); /* the one beyond ASCII is left to its tag */
    assert_int_equal(messages, 2);
}

static void members_too_long_for_a_message_are_left_to_their_tag(void **state)
{
    size_t messages;
    static char name[65000];
    (void)state;
    memset(name, 'n', sizeof name);
    freeReplyObject(redis_cmd(&server, "SADD tag:a short %b", name, sizeof name));
    memset(name, 1, 20000); /* \u0001 each */
    freeReplyObject(redis_cmd(&server, "SADD tag:a %b", name, (size_t)20000));
    invalidate((struct step){.members = "members", .tags = {"a"}, .parts = {"\"tags\":[\"a\"]}"}});
    assert_int_equal(read_log(&messages), 1);
    assert_int_equal(messages, 2);
}

static void many_members_are_split_and_every_step_numbers_its_own(void **state)
{
    struct step step = {.members = "members", .budget = 300, .tags = {"a"}, .parts = {"\"tags\":[\"a\"]}"}};
    struct invalidate_result result = {.next_tag = 0};
    size_t messages, calls = 0;
    char name[500];
    (void)state;
    memset(name, 'n', sizeof name);
    for (int i = 0; i < 500; i++) {
        name[snprintf(name, sizeof name, "%d", i)] = 'n';
        freeReplyObject(redis_cmd(&server, "ZADD tag:a 1 %b", name, sizeof name));
    }
    do {
        result = invalidate_once(&step, result.next_tag);
        calls++;
    } while (result.status == INVALIDATE_MORE);
    assert_int_equal(calls, 2);
    assert_int_equal(read_log(&messages), 500);
    assert_int_equal(messages, 3 + 2 + 1); /* 300 and 200 names of 500 bytes in messages of 60,000; the tag */
    assert_int_equal(result.seq, messages);
    assert_int_equal(ask("HGET evict:{main}:head seq"), (int64_t)messages);
}

static void the_log_keeps_about_as_many_as_it_was_told(void **state)
{
    char id[32], message[256];
    (void)state;
    for (int i = 0; i < 2000; i++)
        invalidate((struct step){.log_length = 200, .parts = {"\"flush\":true}"}});
    int64_t kept = ask("XLEN evict:{main}:log");
    assert_true(kept >= 200 && kept <= 300);
    log_entry((size_t)kept - 1, id, message, sizeof message);
    assert_string_equal(id, "2000-0");
}

static void a_head_that_was_lost_begins_a_new_history(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        invalidate((struct step){.tags = {"a"}, .parts = {"\"flush\":true}"}});
    run("DEL evict:{main}:head");
    assert_int_equal(granted("k", "t1"), 0);
    assert_int_equal(invalidate((struct step){.parts = {"\"flush\":true}"}}).seq, 1);
    assert_int_equal(ask("XLEN evict:{main}:log"), 1);
    run("DEL evict:{main}:head");
    is_stored(store((struct store){"k", NULL, "v", .rest = "\"keys\":[\"k\"]}"}));
    assert_int_equal(ask("XLEN evict:{main}:log"), 1);
    is_string("HGET evict:{main}:head seq", "1");
}

/* An invalidation frees memory: it is the last thing to refuse when there is none. */
static void a_full_redis_takes_invalidations_and_no_fills(void **state)
{
    int64_t seen[2];
    (void)state;
    is_stored(store((struct store){"k", .tags = {"a"}}));
    invalidate((struct step){.parts = {"\"flush\":true}"}});
    run("CONFIG SET maxmemory 100kb");
    struct invalidate_result result = invalidate((struct step){.tags = {"a"}, .keys = {"x"}, .parts = {"\"tags\":[\"a\"]}"}});
    assert_int_equal(result.members, 1);
    beat(seen, "20");
    redisReply *reply = redis_cmd(&server, "EVALSHA %s 3 evict:{main}:head k lease:{k} e t 1000 ask", connection.sha[SCRIPT_LEASE]);
    assert_int_equal(reply_error(reply), REPLY_TRANSIENT);
    freeReplyObject(reply);
    run("CONFIG SET maxmemory 0");
    assert_int_equal(ask("EXISTS k"), 0);
}

/* --- fences --- */

static void a_flush_refuses_every_fill_begun_before(void **state)
{
    (void)state;
    int64_t seq = granted("k", "t1");
    invalidate((struct step){.all = "all", .parts = {"\"flush\":true}"}});
    is_refused(store((struct store){"k", "t1", .seq = seq}), "fence");
    seq = granted("k", "t2");
    is_stored(store((struct store){"k", "t2", .seq = seq}));
}

static void fences_rotate_by_size_and_a_fill_older_than_both_is_refused(void **state)
{
    char tag[16];
    (void)state;
    int64_t oldest = granted("k", "t1");
    for (int i = 0; i < 100; i++) {
        snprintf(tag, sizeof tag, "t%d", i);
        invalidate((struct step){.fences = 10, .tags = {tag}, .parts = {"\"flush\":true}"}});
        assert_true(ask("HLEN evict:{main}:fence:0") <= 10 && ask("HLEN evict:{main}:fence:1") <= 10);
    }
    is_string("HGET evict:{main}:head fgen", "9");
    is_refused(store((struct store){"k", "t1", .seq = oldest}), "fence");
    assert_int_equal(ask("HGET evict:{main}:head floor"), 81); /* 20 fences are kept */
    granted("k", "t2");
    is_refused(store((struct store){"k", "t2", .seq = 80}), "fence");
    granted("k", "t2");
    is_stored(store((struct store){"k", "t2", .seq = 81, .tags = {"t80"}}));
    run("DEL k");
    granted("k", "t2");
    is_refused(store((struct store){"k", "t2", .seq = 81, .tags = {"t81"}}), "fence");
}

static void fences_rotate_by_age_and_when_the_clock_goes_back(void **state)
{
    (void)state;
    invalidate((struct step){.tags = {"a"}, .parts = {"\"flush\":true}"}});
    is_string("HGET evict:{main}:head fgen", "0");
    run("HSET evict:{main}:head fsince 5");
    invalidate((struct step){.tags = {"b"}, .parts = {"\"flush\":true}"}});
    is_string("HGET evict:{main}:head fgen", "1");
    is_string("HGET evict:{main}:fence:0 tag:a", "1");
    is_string("HGET evict:{main}:fence:1 tag:b", "2");
    run("HSET evict:{main}:head fsince 99999999999999");
    invalidate((struct step){.tags = {"c"}, .parts = {"\"flush\":true}"}});
    is_string("HGET evict:{main}:head fgen", "2");
    is_string("HGET evict:{main}:fence:0 tag:a", NULL);
    assert_int_equal(ask("HGET evict:{main}:head floor"), 2);
}

/* --- any order of steps: no value loaded before an eviction outlives it ---
 *
 * A clock that ticks with every step stands for the database: a value is the time at which it was read there. An
 * invalidation tells of a write that took place just before its first call; two may be under way at once, call by call.
 * Once its last call is done, no key may hold a value read before that write, if the key was named or the value
 * carries one of the tags. */

#define KEYS      5
#define TAGS      4
#define FILLS     6
#define SEQUENCES 40
#define STEPS     400

struct fill {
    bool is_active, is_write;
    int key, token;
    int64_t seq;
    int64_t read_at; /* 0: a write that has not reached the database yet */
    unsigned tags;
};

struct eviction {
    bool is_active, is_all;
    unsigned keys, tags;
    int64_t written_at;
    size_t next_tag;
};

struct model {
    uint64_t random;
    int64_t now;
    struct fill fills[FILLS];
    struct eviction evictions[2];
    int64_t key_evicted[KEYS], tag_evicted[TAGS], all_evicted;
    unsigned stored_tags[KEYS];
    unsigned tokens;
    unsigned fresh_stored, fresh_refused, stale_refused;
};

static const char *const key_names[KEYS] = {"k0", "k1", "k2", "{x}k3", "k4"};
static const char *const tag_names[TAGS] = {"t0", "t1", "t2", "t3"};

static unsigned dice(struct model *model, unsigned sides)
{
    model->random = model->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(model->random >> 33) % sides;
}

static unsigned some(struct model *model, unsigned count)
{
    unsigned set = 0;
    for (unsigned i = 0; i < count; i++)
        set |= (unsigned)(dice(model, 3) == 0) << i;
    return set;
}

static size_t pick(const char *out[], const char *const all[], unsigned count, unsigned set)
{
    size_t n = 0;
    for (unsigned i = 0; i < count; i++) {
        if (set & (1u << i))
            out[n++] = all[i];
    }
    out[n] = NULL;
    return n;
}

static bool is_stale(const struct model *model, int key, unsigned tags, int64_t read_at)
{
    bool stale = read_at < model->key_evicted[key] || read_at < model->all_evicted;
    for (unsigned i = 0; i < TAGS; i++)
        stale |= (tags & (1u << i)) && read_at < model->tag_evicted[i];
    return stale;
}

static void step_begin_fill(struct model *model)
{
    struct fill *fill = &model->fills[dice(model, FILLS)];
    if (fill->is_active)
        return; /* its process died: the lease stays */
    char token[16];
    int key = (int)dice(model, KEYS);
    bool is_write = dice(model, 4) == 0;
    snprintf(token, sizeof token, "%u", ++model->tokens);
    struct answer answer = lease_as(is_write ? "take" : "ask", key_names[key], token);
    if (strcmp(answer.status, "granted") == 0)
        *fill = (struct fill){true, is_write, key, (int)model->tokens, answer.seq, is_write ? 0 : model->now, some(model, TAGS)};
}

static void step_end_fill(struct model *model)
{
    struct fill *fill = &model->fills[dice(model, FILLS)];
    char token[16], value[24];
    if (!fill->is_active)
        return;
    if (fill->is_write && !fill->read_at) {
        fill->read_at = model->now;
        return;
    }
    snprintf(token, sizeof token, "%d", fill->token);
    snprintf(value, sizeof value, "%lld", (long long)fill->read_at);
    struct store s = {key_names[fill->key], token, value, .seq = fill->seq, .rest = fill->is_write ? "\"keys\":[\"k\"]}" : NULL};
    pick(s.tags, tag_names, TAGS, fill->tags);
    bool was_stale = is_stale(model, fill->key, fill->tags, fill->read_at);
    bool is_in = strcmp(store(s).status, "stored") == 0;
    if (is_in)
        model->stored_tags[fill->key] = fill->tags;
    if (is_in && was_stale)
        fail_msg("a stale fill of %s was stored", s.key);
    if (fill->is_write && fill->read_at > model->key_evicted[fill->key])
        model->key_evicted[fill->key] = fill->read_at;
    model->fresh_stored += is_in;
    model->fresh_refused += !is_in && !was_stale;
    model->stale_refused += !is_in && was_stale;
    fill->is_active = false;
}

static void step_evict(struct model *model)
{
    struct eviction *eviction = &model->evictions[dice(model, 2)];
    if (!eviction->is_active) {
        *eviction = (struct eviction){true, dice(model, 20) == 0, some(model, KEYS), some(model, TAGS), model->now, 0};
        if (!(eviction->keys | eviction->tags))
            eviction->tags = 1;
        return;
    }
    struct step step = {.budget = 2, .fences = 1 + dice(model, 6), .age_ms = dice(model, 2) ? 1 : FENCES_AGE_MS,
                        .all = eviction->is_all ? "all" : "", .parts = {"\"flush\":true}"}};
    size_t tags = pick(step.tags, tag_names, TAGS, eviction->tags);
    pick(step.keys, key_names, KEYS, eviction->keys);
    if (eviction->is_all)
        pick(step.keys, key_names, KEYS, ~0u); /* what a flush finds */
    struct invalidate_result result = invalidate_once(&step, eviction->next_tag);
    if (result.status == INVALIDATE_MORE) {
        assert_true(result.next_tag < tags);
        eviction->next_tag = result.next_tag;
        return;
    }
    int64_t at = eviction->written_at;
    for (unsigned i = 0; i < KEYS; i++) {
        if ((eviction->keys & (1u << i)) && model->key_evicted[i] < at)
            model->key_evicted[i] = at;
    }
    for (unsigned i = 0; i < TAGS; i++) {
        if ((eviction->tags & (1u << i)) && model->tag_evicted[i] < at)
            model->tag_evicted[i] = at;
    }
    if (eviction->is_all && model->all_evicted < at)
        model->all_evicted = at;
    eviction->is_active = false;
}

static void step_other(struct model *model)
{
    int64_t seen[2];
    char name[80], value[24];
    const char *key = key_names[dice(model, KEYS)];
    switch (dice(model, 4)) {
    case 0: /* a lease runs out */
        name[names_lease(&names, key, strlen(key), name)] = '\0';
        freeReplyObject(redis_cmd(&server, "DEL %s", name));
        break;
    case 1: /* another application's member, and with luck its kind of tag set */
        freeReplyObject(redis_cmd(&server, "SADD tag:%s other", tag_names[dice(model, TAGS)]));
        break;
    case 2:
        beat(seen, "20");
        break;
    default: { /* cache_set: what it stores is current */
        unsigned tags = some(model, TAGS);
        int i = (int)dice(model, KEYS);
        snprintf(value, sizeof value, "%lld", (long long)model->now);
        struct store s = {key_names[i], NULL, value, .rest = "\"keys\":[\"k\"]}"};
        pick(s.tags, tag_names, TAGS, tags);
        is_stored(store(s));
        model->stored_tags[i] = tags;
        model->key_evicted[i] = model->now;
        break;
    }
    }
}

static void check_values(const struct model *model, uint64_t sequence, int at)
{
    for (int i = 0; i < KEYS; i++) {
        redisReply *reply = redis_cmd(&server, "GET %s", key_names[i]);
        if (reply->type == REDIS_REPLY_STRING && is_stale(model, i, model->stored_tags[i], strtoll(reply->str, NULL, 10)))
            fail_msg("sequence %llu, step %d: %s holds a stale value", (unsigned long long)sequence, at, key_names[i]);
        freeReplyObject(reply);
    }
}

static void no_stale_value_outlives_its_invalidation_in_any_order(void **state)
{
    unsigned stored = 0, fresh_refused = 0, stale_refused = 0;
    (void)state;
    for (uint64_t sequence = 1; sequence <= SEQUENCES; sequence++) {
        struct model model = {.random = sequence};
        run("FLUSHALL");
        for (int i = 0; i < STEPS; i++) {
            model.now++;
            switch (dice(&model, 8)) {
            case 0: case 1: case 2:
                step_begin_fill(&model);
                break;
            case 3: case 4: case 5:
                step_end_fill(&model);
                break;
            case 6:
                step_evict(&model);
                break;
            default:
                if (dice(&model, 3) == 0)
                    step_other(&model);
                else
                    step_evict(&model);
            }
            check_values(&model, sequence, i);
        }
        stored += model.fresh_stored;
        fresh_refused += model.fresh_refused;
        stale_refused += model.stale_refused;
    }
    print_message("%u stored, %u stale refused, %u fresh refused\n", stored, stale_refused, fresh_refused);
    assert_true(stored > SEQUENCES * STEPS / 50); /* it is not that all is refused */
    assert_true(stale_refused > SEQUENCES * STEPS / 50);
}

/* --- glob.c means what Redis means --- */

static void globs_mean_what_redis_says(void **state)
{
    struct model model = {.random = 4711};
    static const char alphabet[] = "ab*?[]^-\\\xe4\xff";
    char glob[8], text[4];
    unsigned matches = 0;
    (void)state;
    for (int i = 0; i < 60000; i++) {
        size_t glob_size = 1 + dice(&model, sizeof glob), size = 1 + dice(&model, sizeof text);
        for (size_t j = 0; j < glob_size; j++)
            glob[j] = alphabet[dice(&model, sizeof alphabet - 1)];
        for (size_t j = 0; j < size; j++)
            text[j] = alphabet[dice(&model, i % 2 ? 2 : sizeof alphabet - 1)];
        freeReplyObject(redis_cmd(&server, "SET %b 1", text, size));
        redisReply *reply = redis_cmd(&server, "KEYS %b", glob, glob_size);
        bool is_match = glob_match(glob, glob_size, text, size);
        if (is_match != (reply->elements == 1))
            fail_msg("KEYS %.*s with %.*s: Redis says %zu", (int)glob_size, glob, (int)size, text, reply->elements);
        matches += is_match;
        freeReplyObject(reply);
        freeReplyObject(redis_cmd(&server, "DEL %b", text, size));
    }
    assert_true(matches > 2000);
}

#define TEST(name) cmocka_unit_test_setup(name, empty)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_to_ask_gets_the_lease_and_the_others_hear_how_long),
        TEST(a_value_is_handed_out_instead_of_a_lease),
        TEST(a_writer_takes_the_lease_over_value_and_holder),
        TEST(the_epoch_is_made_once),
        TEST(a_fill_is_stored_with_its_tags_and_lets_go_of_its_lease),
        TEST(a_member_expires_at_the_very_millisecond_of_its_key),
        TEST(a_fill_without_its_lease_is_refused_and_changes_nothing),
        TEST(a_fill_begun_before_its_tag_was_fenced_is_refused),
        TEST(fences_of_both_generations_count),
        TEST(a_fill_of_another_epoch_is_refused),
        TEST(a_fill_begun_before_the_floor_is_refused),
        TEST(a_tag_set_of_another_type_refuses_before_anything_is_written),
        TEST(a_key_named_like_its_own_tag_set_is_refused),
        TEST(a_set_asks_nobody_and_ends_every_fill_of_its_key),
        TEST(a_write_is_broadcast_in_the_same_step),
        TEST(a_refused_write_removes_the_key_and_is_broadcast_all_the_same),
        TEST(of_two_writers_that_overlap_the_overtaken_one_stops_both),
        TEST(a_plain_set_stays_plain_and_lasts_as_long_as_its_members),
        TEST(a_sorted_set_with_a_time_to_live_is_kept_by_the_index_instead),
        TEST(a_members_score_only_rises),
        TEST(expired_members_are_pruned_as_others_come),
        TEST(every_beat_counts_one_and_tells_the_head),
        TEST(the_sweep_removes_dead_tag_sets_and_no_others),
        TEST(nothing_is_pruned_or_swept_before_its_key_is_gone),
        TEST(keys_tag_members_and_leases_go_in_one_numbered_step),
        TEST(what_the_encoder_sends_the_script_understands),
        TEST(a_sorted_set_of_a_million_members_goes_in_bounded_steps),
        TEST(a_plain_set_of_a_million_members_goes_in_bounded_steps),
        TEST(several_tags_share_the_budget_of_a_call),
        TEST(a_tag_of_another_type_is_counted_and_left_alone),
        TEST(a_batch_that_does_not_continue_is_not_applied),
        TEST(applied_offsets_only_rise),
        TEST(a_batch_may_span_any_number_of_partitions),
        TEST(a_batch_meant_for_another_epoch_is_not_applied),
        TEST(deleted_members_are_broadcast_on_request),
        TEST(members_too_long_for_a_message_are_left_to_their_tag),
        TEST(many_members_are_split_and_every_step_numbers_its_own),
        TEST(the_log_keeps_about_as_many_as_it_was_told),
        TEST(a_head_that_was_lost_begins_a_new_history),
        TEST(a_full_redis_takes_invalidations_and_no_fills),
        TEST(a_flush_refuses_every_fill_begun_before),
        TEST(fences_rotate_by_size_and_a_fill_older_than_both_is_refused),
        TEST(fences_rotate_by_age_and_when_the_clock_goes_back),
        TEST(no_stale_value_outlives_its_invalidation_in_any_order),
        TEST(globs_mean_what_redis_says),
    };
    return cmocka_run_group_tests(tests, start_all, stop_all);
}
