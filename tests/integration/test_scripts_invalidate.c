/* invalidate.lua alone against a real Redis. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast.h"
#include "resp.h"
#include "script_calls.h"

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
    struct invalidate_result result =
        invalidate((struct step){.tags = {"a", "b", "none"},
                                 .keys = {"k1", "k2", "absent", "user:{7}:x"},
                                 .parts = {"\"keys\":[\"k1\"]}", "\"flush\":true}"}});
    assert_int_equal(result.members, 3);
    assert_int_equal(result.keys, 6);
    assert_int_equal(result.seq, 2);
    assert_string_equal(result.epoch, EPOCH);
    assert_int_equal(
        ask("EXISTS k1 k2 m1 m2 m3 tag:a tag:b user:{7}:x lease:{k1} lease:{k2} lease:{7}:user:{7}:x"), 0);
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
    assert_string_equal(message,
                        "{\"v\":1,\"ns\":\"main\",\"epoch\":\"" EPOCH "\",\"seq\":2,\"flush\":true}");
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
    const struct invalidate_call call = {.new_epoch = EPOCH,
                                         .expected_epoch = "",
                                         .log_length = 10,
                                         .tags = tags,
                                         .tags_count = 2,
                                         .keys = keys,
                                         .keys_count = 1,
                                         .broadcast = writer,
                                         .partitions = &partition,
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
    struct step step = {
        .budget = 3, .tags = {"a", "b", "none", "c"}, .keys = {"k"}, .parts = {"\"tags\":[\"a\"]}"}};
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
    struct step step = {.tags = {"a"},
                        .keys = {"k"},
                        .parts = {"\"flush\":true}"},
                        .partitions = {{"g/t/0", 5, 9}, {"g/t/1", -1, 3}}};
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
    const struct invalidate_call call = {.new_epoch = EPOCH,
                                         .expected_epoch = "",
                                         .log_length = 10,
                                         .partitions = partitions,
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
    struct invalidate_result result =
        invalidate((struct step){.tags = {"a"}, .keys = {"x"}, .parts = {"\"tags\":[\"a\"]}"}});
    assert_int_equal(result.members, 1);
    beat(seen, "20");
    redisReply *reply = redis_cmd(&server, "EVALSHA %s 3 evict:{main}:head k lease:{k} e t 1000 ask",
                                  connection.sha[SCRIPT_LEASE]);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPTS_TEST(keys_tag_members_and_leases_go_in_one_numbered_step),
        SCRIPTS_TEST(what_the_encoder_sends_the_script_understands),
        SCRIPTS_TEST(a_sorted_set_of_a_million_members_goes_in_bounded_steps),
        SCRIPTS_TEST(a_plain_set_of_a_million_members_goes_in_bounded_steps),
        SCRIPTS_TEST(several_tags_share_the_budget_of_a_call),
        SCRIPTS_TEST(a_tag_of_another_type_is_counted_and_left_alone),
        SCRIPTS_TEST(a_batch_that_does_not_continue_is_not_applied),
        SCRIPTS_TEST(applied_offsets_only_rise),
        SCRIPTS_TEST(a_batch_may_span_any_number_of_partitions),
        SCRIPTS_TEST(a_batch_meant_for_another_epoch_is_not_applied),
        SCRIPTS_TEST(deleted_members_are_broadcast_on_request),
        SCRIPTS_TEST(members_too_long_for_a_message_are_left_to_their_tag),
        SCRIPTS_TEST(many_members_are_split_and_every_step_numbers_its_own),
        SCRIPTS_TEST(the_log_keeps_about_as_many_as_it_was_told),
        SCRIPTS_TEST(a_head_that_was_lost_begins_a_new_history),
        SCRIPTS_TEST(a_full_redis_takes_invalidations_and_no_fills),
        SCRIPTS_TEST(a_flush_refuses_every_fill_begun_before),
        SCRIPTS_TEST(fences_rotate_by_size_and_a_fill_older_than_both_is_refused),
        SCRIPTS_TEST(fences_rotate_by_age_and_when_the_clock_goes_back),
    };
    return cmocka_run_group_tests(tests, scripts_start, scripts_stop);
}
