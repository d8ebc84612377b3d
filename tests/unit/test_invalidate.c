#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "failing_malloc.h"
#include "invalidate.h"

#define SHA "0123456789012345678901234567890123456789"

struct arguments {
    size_t count;
    struct {
        const char *data;
        size_t size;
    } at[4096];
};

/* Reads one command back: *N, then $SIZE data each; nothing may follow. */
static void read_command(const struct resp *resp, struct arguments *out)
{
    const char *at = resp->data, *end = resp->data + resp->size;
    char *next;
    assert_false(resp->has_failed);
    assert_int_equal(*at, '*');
    size_t announced = strtoul(at + 1, &next, 10);
    at = next + 2;
    out->count = 0;
    while (at < end) {
        assert_int_equal(*at, '$');
        size_t size = strtoul(at + 1, &next, 10);
        out->at[out->count].data = next + 2;
        out->at[out->count++].size = size;
        at = next + 2 + size + 2;
    }
    assert_ptr_equal(at, end);
    assert_int_equal(out->count, announced);
}

static void is_text(const struct arguments *arguments, size_t i, const char *text)
{
    assert_true(i < arguments->count);
    if (arguments->at[i].size != strlen(text) || memcmp(arguments->at[i].data, text, strlen(text)) != 0)
        fail_msg("argument %zu is %.*s, not %s", i, (int)arguments->at[i].size, arguments->at[i].data, text);
}

static void a_call_lists_everything_in_the_order_of_the_script(void **state)
{
    (void)state;
    static struct arguments args;
    struct names names;
    struct resp resp;
    struct broadcast_writer *writer = broadcast_writer_create();
    assert_non_null(writer);
    assert_int_equal(broadcast_writer_add(writer, BROADCAST_TAGS, "t1", 2), 0);
    assert_int_equal(broadcast_writer_finish(writer), 0);
    assert_int_equal(names_init(&names, "main", "tag:", "lease:"), 0);
    const struct invalidate_slice tags[] = {{"t1", 2}, {"t\0two", 5}, {"t3", 2}};
    const struct invalidate_slice keys[] = {{"k1", 2}, {"a{b}", 4}};
    const struct invalidate_partition partitions[] = {{"g/t/0", -1, 7},
                                                      {"g/t/1", 1234567890123, 1234567890124}};
    const struct invalidate_call call = {.new_epoch = "abc",
                                         .expected_epoch = "",
                                         .log_length = 1000,
                                         .broadcasts_members = true,
                                         .tags = tags,
                                         .tags_count = 3,
                                         .keys = keys,
                                         .keys_count = 2,
                                         .broadcast = writer,
                                         .partitions = partitions,
                                         .partitions_count = 2};
    resp_init(&resp);
    invalidate_encode(&resp, SHA, &names, &call, 0);
    read_command(&resp, &args);
    static const char *const expected[] = {"EVALSHA",
                                           SHA,
                                           "5",
                                           "evict:{main}:head",
                                           "evict:{main}:fence:0",
                                           "evict:{main}:fence:1",
                                           "evict:{main}:log",
                                           "evict:{main}:applied",
                                           "abc",
                                           "",
                                           "evict:{main}",
                                           "1000",
                                           "1000",
                                           "262144",
                                           "60000",
                                           "members",
                                           "",
                                           "3",
                                           "2",
                                           "1",
                                           "2",
                                           "\"main\"",
                                           "tag:t1"};
    size_t n = sizeof expected / sizeof expected[0];
    for (size_t i = 0; i < n; i++)
        is_text(&args, i, expected[i]);
    assert_int_equal(args.at[n].size, 9);
    assert_memory_equal(args.at[n].data, "tag:t\0two", 9);
    static const char *const rest[] = {
        "tag:t3", "k1", "lease:{k1}", "a{b}",  "lease:{b}:a{b}", "\"tags\":[\"t1\"]}",
        "g/t/0",  "-1", "7",          "g/t/1", "1234567890123",  "1234567890124"};
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++)
        is_text(&args, n + 1 + i, rest[i]);
    assert_int_equal(args.count, n + 1 + sizeof rest / sizeof rest[0]);

    resp_clear(&resp); /* going on with the third tag */
    invalidate_encode(&resp, SHA, &names, &call, 2);
    read_command(&resp, &args);
    is_text(&args, 17, "1");
    is_text(&args, 22, "tag:t3");
    is_text(&args, 23, "k1");
    resp_deinit(&resp);
    names_deinit(&names);
    broadcast_writer_destroy(&writer);
}

static void long_names_are_sent_whole(void **state)
{
    (void)state;
    static struct arguments args;
    static char name[65535];
    struct names names;
    struct resp resp;
    memset(name, 'n', sizeof name);
    assert_int_equal(names_init(&names, "main", "tag:", "lease:"), 0);
    const struct invalidate_slice slice = {name, sizeof name};
    const struct invalidate_call call = {.new_epoch = "e",
                                         .expected_epoch = "x",
                                         .tags = &slice,
                                         .tags_count = 1,
                                         .keys = &slice,
                                         .keys_count = 1,
                                         .refuses_all_fills = true};
    resp_init(&resp);
    invalidate_encode(&resp, SHA, &names, &call, 0);
    read_command(&resp, &args);
    is_text(&args, 9, "x");
    is_text(&args, 15, "");
    is_text(&args, 16, "all");
    assert_int_equal(args.count, 25);
    assert_int_equal(args.at[22].size, 4 + sizeof name);
    assert_int_equal(args.at[23].size, sizeof name);
    assert_int_equal(args.at[24].size, 8 + sizeof name);
    assert_memory_equal(args.at[24].data, "lease:{nnn", 10);
    resp_deinit(&resp);
    names_deinit(&names);
}

static void any_allocation_may_fail(void **state)
{
    static char name[5000]; /* too long for the stack's buffers */
    struct names names;
    bool has_failed = true;
    (void)state;
    assert_int_equal(names_init(&names, "main", "tag:", "lease:"), 0);
    const struct invalidate_slice slice = {name, sizeof name};
    const struct invalidate_call call = {.new_epoch = "e",
                                         .expected_epoch = "",
                                         .tags = &slice,
                                         .tags_count = 1,
                                         .keys = &slice,
                                         .keys_count = 1};
    for (long nth = 0; has_failed; nth++) {
        struct resp resp;
        resp_init(&resp);
        failing_malloc_arm(nth);
        invalidate_encode(&resp, SHA, &names, &call, 0);
        has_failed = failing_malloc_disarm();
        assert_int_equal(resp.has_failed, has_failed);
        resp_deinit(&resp);
    }
    names_deinit(&names);
}

/* --- replies: "s:text" or "i:number", a list of them --- */

static enum invalidate_status decode(const char *const items[], size_t count, size_t first_tag,
                                     struct invalidate_result *ret_result)
{
    redisReply elements[8], *pointers[8],
        reply = {.type = REDIS_REPLY_ARRAY, .elements = count, .element = pointers};
    memset(elements, 0, sizeof elements);
    for (size_t i = 0; i < count; i++) {
        pointers[i] = &elements[i];
        elements[i].type = items[i][0] == 'i' ? REDIS_REPLY_INTEGER : REDIS_REPLY_STRING;
        elements[i].integer = items[i][0] == 'i' ? strtoll(items[i] + 2, NULL, 10) : 0;
        elements[i].str = (char *)(uintptr_t)(items[i] + 2);
        elements[i].len = items[i][0] == 'i' ? 0 : strlen(items[i] + 2);
    }
    invalidate_decode(&reply, first_tag, ret_result);
    return ret_result->status;
}

#define DECODE(first_tag, result, ...)                                                                       \
    decode((const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *),  \
           first_tag, result)

static void every_answer_of_the_script_is_understood(void **state)
{
    (void)state;
    struct invalidate_result r;
    assert_int_equal(DECODE(0, &r, "s:done", "i:12", "s:abc", "i:3", "i:4", "i:5"), INVALIDATE_DONE);
    assert_int_equal(r.seq, 12);
    assert_string_equal(r.epoch, "abc");
    assert_int_equal(r.members, 3);
    assert_int_equal(r.keys, 4);
    assert_int_equal(r.foreign, 5);
    assert_int_equal(DECODE(10, &r, "s:more", "i:2", "s:abc", "i:1000"), INVALIDATE_MORE);
    assert_int_equal(r.next_tag, 11);
    assert_int_equal(r.members, 1000);
    assert_int_equal(DECODE(0, &r, "s:behind", "s:g/t/0", "i:-1", "s:abc"), INVALIDATE_BEHIND);
    assert_int_equal(r.applied, -1);
    assert_int_equal(DECODE(0, &r, "s:epoch", "s:other"), INVALIDATE_EPOCH);
    assert_string_equal(r.epoch, "other");
}

static void answers_of_another_form_are_bad(void **state)
{
    (void)state;
    struct invalidate_result r;
    assert_int_equal(DECODE(0, &r, "i:1"), INVALIDATE_BAD);
    assert_int_equal(DECODE(0, &r, "s:finished"), INVALIDATE_BAD);
    assert_int_equal(DECODE(0, &r, "s:done", "i:12", "s:abc", "i:3", "i:4"), INVALIDATE_BAD);
    assert_int_equal(DECODE(0, &r, "s:done", "s:12", "s:abc", "i:3", "i:4", "i:5"), INVALIDATE_BAD);
    assert_int_equal(DECODE(0, &r, "s:done", "i:-12", "s:abc", "i:3", "i:4", "i:5"), INVALIDATE_BAD);
    assert_int_equal(
        DECODE(0, &r, "s:done", "i:1", "s:012345678901234567890123456789012", "i:3", "i:4", "i:5"),
        INVALIDATE_BAD);
    assert_int_equal(DECODE(0, &r, "s:more", "i:0", "s:abc", "i:1"), INVALIDATE_BAD);
    assert_int_equal(DECODE(0, &r, "s:more", "i:1", "s:abc"), INVALIDATE_BAD);
    assert_int_equal(DECODE(0, &r, "s:behind", "s:f", "s:1", "s:abc"), INVALIDATE_BAD);
    assert_int_equal(DECODE(0, &r, "s:epoch"), INVALIDATE_BAD);
    redisReply nil = {.type = REDIS_REPLY_NIL}, empty = {.type = REDIS_REPLY_ARRAY};
    invalidate_decode(&nil, 0, &r);
    assert_int_equal(r.status, INVALIDATE_BAD);
    invalidate_decode(&empty, 0, &r);
    assert_int_equal(r.status, INVALIDATE_BAD);
}

static void epochs_are_random_and_32_hex_digits(void **state)
{
    (void)state;
    char one[EPOCH_SIZE], other[EPOCH_SIZE];
    epoch_random(one);
    epoch_random(other);
    assert_int_equal(strspn(one, "0123456789abcdef"), 32);
    assert_int_equal(strlen(one), 32);
    assert_string_not_equal(one, other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_lists_everything_in_the_order_of_the_script),
        cmocka_unit_test(long_names_are_sent_whole),
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(every_answer_of_the_script_is_understood),
        cmocka_unit_test(answers_of_another_form_are_bad),
        cmocka_unit_test(epochs_are_random_and_32_hex_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
