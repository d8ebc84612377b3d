#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "broadcast.h"
#include "failing_malloc.h"
#include "samples.h"

/* --- the samples: schemas/samples/broadcast --- */

struct judge {
    bool is_good;
    struct json_document document;
};

static void judge_sample(void *arg, const char *path)
{
    struct judge *judge = arg;
    struct broadcast broadcast;
    size_t size;
    char *text = samples_read(path, &size);
    if ((broadcast_parse(&judge->document, text, size, "main", &broadcast) == 0) != judge->is_good)
        fail_msg("%s is %s", path, judge->is_good ? "refused" : "taken");
    free(text);
}

static void check_samples(const char *folder, size_t at_least, bool is_good)
{
    struct judge judge = {.is_good = is_good};
    assert_true(samples_each(folder, ".json", judge_sample, &judge) >= at_least);
    json_deinit(&judge.document);
}

static void every_valid_sample_is_understood(void **state)
{
    (void)state;
    check_samples("broadcast/valid", 8, true);
}

static void every_invalid_sample_is_refused(void **state)
{
    (void)state;
    check_samples("broadcast/invalid", 15, false);
}

static void what_no_schema_can_tell_is_refused_too(void **state)
{
    (void)state;
    check_samples("broadcast/hostile", 10, false);
}

/* --- names go in at the writer and come out at the reader --- */

struct name {
    enum broadcast_kind kind;
    size_t size;
    char *data;
};

struct seen {
    struct name *names;
    size_t count, capacity;
    size_t flushes, messages, largest;
    uint64_t seq;
};

static void see(struct seen *seen, enum broadcast_kind kind, const void *data, size_t size)
{
    if (seen->count == seen->capacity) {
        seen->capacity = seen->capacity ? 2 * seen->capacity : 64;
        seen->names = realloc(seen->names, seen->capacity * sizeof *seen->names);
        assert_non_null(seen->names);
    }
    struct name *name = &seen->names[seen->count++];
    *name = (struct name){kind, size, malloc(size + 1)};
    assert_non_null(name->data);
    memcpy(name->data, data, size);
}

static void see_key(void *arg, const void *key, size_t size)
{
    see(arg, BROADCAST_KEYS, key, size);
}

static void see_tag(void *arg, const void *tag, size_t size)
{
    see(arg, BROADCAST_TAGS, tag, size);
}

static void see_pattern(void *arg, const char *glob, size_t size)
{
    see(arg, BROADCAST_PATTERNS, glob, size);
}

static void forget(struct seen *seen)
{
    for (size_t i = 0; i < seen->count; i++)
        free(seen->names[i].data);
    free(seen->names);
    memset(seen, 0, sizeof *seen);
}

/* The longest frame there is: what the script puts before the writer's part. */
static size_t put_frame(char *out, size_t size, uint64_t seq)
{
    return (size_t)snprintf(out, size, "{\"v\":1,\"ns\":\"%064d\",\"epoch\":\"%032d\",\"seq\":%llu,", 0, 0,
                            (unsigned long long)seq);
}

static void receive(const struct broadcast_writer *writer, struct seen *seen)
{
    struct json_document document = {.text = NULL};
    const struct broadcast_handler handler = {see_key, see_tag, see_pattern, seen};
    char ns[65];
    snprintf(ns, sizeof ns, "%064d", 0);
    for (size_t i = 0; i < broadcast_writer_count(writer); i++) {
        struct broadcast broadcast;
        size_t size, frame_size;
        const char *part = broadcast_writer_part(writer, i, &size);
        char *message = malloc(size + 1024);
        assert_non_null(message);
        frame_size = put_frame(message, 1024, 999999999999000 + i);
        memcpy(message + frame_size, part, size);
        size += frame_size;
        seen->largest = size > seen->largest ? size : seen->largest;
        if (broadcast_parse(&document, message, size, ns, &broadcast) < 0)
            fail_msg("part %zu of %zu bytes is refused: %.300s", i, size, message);
        assert_int_equal(broadcast.seq, 999999999999000 + i);
        seen->flushes += broadcast.is_flush;
        seen->messages++;
        assert_int_equal(broadcast_visit(&document, &handler), 0);
        free(message);
    }
    json_deinit(&document);
}

static bool has_seen(const struct seen *seen, enum broadcast_kind kind, const void *data, size_t size)
{
    for (size_t i = 0; i < seen->count; i++) {
        const struct name *name = &seen->names[i];
        if (name->kind == kind && name->size == size && memcmp(name->data, data, size) == 0)
            return true;
    }
    return false;
}

static int setup(void **state)
{
    *state = broadcast_writer_create();
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    struct broadcast_writer *writer = *state;
    broadcast_writer_destroy(&writer);
    broadcast_writer_destroy(&writer);
    broadcast_writer_destroy(NULL);
    return 0;
}

static void names_of_any_bytes_arrive_as_they_were(void **state)
{
    struct broadcast_writer *writer = *state;
    struct seen seen = {.count = 0};
    char all[256], controls[33];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (char)i;
    for (size_t i = 0; i < sizeof controls; i++)
        controls[i] = (char)i;
    controls[32] = 0x7f;
    const struct {
        const char *data;
        size_t size;
    } names[] = {{"post:17", 7},      {"\"\\/", 3},   {controls, 33},     {"gr\xc3\xbc\xc3\x9f", 6},
                 {"\xff", 1},         {"a\0b", 3},    {all, 256},         {"\0", 1},
                 {"\xed\xa0\x80", 3}, {"\\u0041", 6}, {"\xe2\x80\xa8", 3}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(broadcast_writer_add(writer, BROADCAST_KEYS, names[i].data, names[i].size), 0);
        assert_int_equal(broadcast_writer_add(writer, BROADCAST_TAGS, names[i].data, names[i].size), 0);
    }
    assert_int_equal(broadcast_writer_add(writer, BROADCAST_PATTERNS, "a*\n", 3), 0);
    assert_int_equal(broadcast_writer_finish(writer), 0);
    assert_int_equal(broadcast_writer_count(writer), 1);
    receive(writer, &seen);
    assert_int_equal(seen.count, 2 * sizeof names / sizeof names[0] + 1);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_true(has_seen(&seen, BROADCAST_KEYS, names[i].data, names[i].size));
        assert_true(has_seen(&seen, BROADCAST_TAGS, names[i].data, names[i].size));
    }
    assert_true(has_seen(&seen, BROADCAST_PATTERNS, "a*\n", 3));
    assert_int_equal(seen.flushes, 0);
    forget(&seen);
}

static void nothing_added_is_nothing_said(void **state)
{
    struct broadcast_writer *writer = *state;
    broadcast_writer_cause(writer, "t", 0, 1, "r");
    assert_int_equal(broadcast_writer_finish(writer), 0);
    assert_int_equal(broadcast_writer_count(writer), 0);
}

/* The i-th name: some have a quote or a NUL, some are no UTF-8. At least 40 bytes. */
static void make_name(char *name, size_t size, size_t i)
{
    memset(name, 'n', size);
    name[snprintf(name, 40, "%zu", i)] = i % 3 ? '"' : 'n';
    name[38] = i % 5 ? 'n' : '\0';
    name[39] = i % 7 ? 'n' : '\xff';
}

/* In many sizes, so that parts end at every distance from the bound. */
static void many_names_are_split_into_full_messages(void **state)
{
    struct broadcast_writer *writer = *state;
    char topic[250], rule[200];
    memset(topic, 't', sizeof topic);
    topic[249] = '\0';
    memset(rule, 'r', sizeof rule);
    rule[199] = '\0';
    for (unsigned size = 1; size < 20000; size = size * 3 + 1) {
        struct seen seen = {.count = 0};
        size_t count = 300000 / (size + 40) + 3, text_bytes = 0;
        char *name = malloc(size + 40);
        assert_non_null(name);
        broadcast_writer_clear(writer);
        broadcast_writer_cause(writer, topic, 2147483647, INT64_MAX, rule);
        for (size_t i = 0; i < count; i++) {
            make_name(name, size + 40, i);
            assert_int_equal(
                broadcast_writer_add(writer, i % 2 ? BROADCAST_KEYS : BROADCAST_TAGS, name, size + 40), 0);
            text_bytes += size + 40;
        }
        assert_int_equal(broadcast_writer_finish(writer), 0);
        receive(writer, &seen);
        assert_int_equal(seen.count, count);
        assert_int_equal(seen.flushes, 0);
        assert_true(seen.largest <= BROADCAST_SIZE_MAX);
        if (size < 1000) { /* small names fill their messages, base64 and escapes included */
            assert_true(seen.largest > BROADCAST_SIZE_MAX - 4096);
            if (seen.messages > text_bytes * 2 / BROADCAST_SIZE_MAX + 1)
                fail_msg("%zu messages for %zu bytes", seen.messages, text_bytes);
        }
        for (size_t i = 0; i < count; i++) {
            make_name(name, size + 40, i);
            if (i % 50 == 0 || i + 1 == count)
                assert_true(has_seen(&seen, i % 2 ? BROADCAST_KEYS : BROADCAST_TAGS, name, size + 40));
        }
        forget(&seen);
        free(name);
    }
}

static void the_longest_name_that_fits_is_sent_and_one_byte_more_flushes(void **state)
{
    struct broadcast_writer *writer = *state;
    static const struct {
        char byte;
        size_t most; /* (65536 - 1536 - quotes and comma) / bytes that one takes */
    } table[] = {{'n', 63997}, {'"', 31998}, {'\x01', 10666}, {'\xff', 47997}};
    static char name[65536];
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        for (size_t over = 0; over < 2; over++) {
            struct seen seen = {.count = 0};
            memset(name, table[i].byte, sizeof name);
            broadcast_writer_clear(writer);
            assert_int_equal(broadcast_writer_add(writer, BROADCAST_TAGS, "before", 6), 0);
            assert_int_equal(broadcast_writer_add(writer, BROADCAST_KEYS, name, table[i].most + over), 0);
            assert_int_equal(broadcast_writer_add(writer, BROADCAST_TAGS, "after", 5), 0);
            assert_int_equal(broadcast_writer_finish(writer), 0);
            receive(writer, &seen);
            assert_true(has_seen(&seen, BROADCAST_TAGS, "before", 6));
            assert_true(has_seen(&seen, BROADCAST_TAGS, "after", 5));
            assert_int_equal(has_seen(&seen, BROADCAST_KEYS, name, table[i].most), !over);
            assert_int_equal(seen.flushes, over);
            assert_true(seen.largest <= BROADCAST_SIZE_MAX);
            forget(&seen);
        }
    }
}

static void a_pattern_that_is_no_text_flushes(void **state)
{
    struct broadcast_writer *writer = *state;
    struct seen seen = {.count = 0};
    assert_int_equal(broadcast_writer_add(writer, BROADCAST_PATTERNS, "\xff*", 2), 0);
    assert_int_equal(broadcast_writer_finish(writer), 0);
    receive(writer, &seen);
    assert_int_equal(seen.flushes, 1);
    assert_int_equal(seen.count, 0);
    forget(&seen);
}

static void a_cause_is_in_every_part_unless_it_is_too_long(void **state)
{
    struct broadcast_writer *writer = *state;
    char rule[1000];
    size_t size;
    broadcast_writer_cause(writer, "blog.posts", 3, 1234567890123, "a \"rule\"");
    assert_int_equal(broadcast_writer_add(writer, BROADCAST_KEYS, "k", 1), 0);
    assert_int_equal(broadcast_writer_flush_all(writer), 0);
    assert_int_equal(broadcast_writer_finish(writer), 0);
    assert_int_equal(broadcast_writer_count(writer), 2);
#define CAUSE                                                                                                \
    ",\"cause\":{\"topic\":\"blog.posts\",\"partition\":3,\"offset\":1234567890123,\"rule\":\"a "            \
    "\\\"rule\\\"\"}}"
    const char *part = broadcast_writer_part(writer, 0, &size);
    assert_int_equal(size, sizeof "\"keys\":[\"k\"]" CAUSE - 1);
    assert_memory_equal(part, "\"keys\":[\"k\"]" CAUSE, size);
    part = broadcast_writer_part(writer, 1, &size);
    assert_int_equal(size, sizeof "\"flush\":true" CAUSE - 1);
    assert_memory_equal(part, "\"flush\":true" CAUSE, size);

    broadcast_writer_clear(writer);
    memset(rule, 'r', sizeof rule);
    rule[999] = '\0';
    broadcast_writer_cause(writer, "t", 0, 0, rule);
    assert_int_equal(broadcast_writer_flush_all(writer), 0);
    part = broadcast_writer_part(writer, 0, &size);
    assert_int_equal(size, 13);
    assert_memory_equal(part, "\"flush\":true}", 13);

    broadcast_writer_clear(writer); /* forgets the cause */
    broadcast_writer_cause(writer, "t", 0, 0, "\xff");
    assert_int_equal(broadcast_writer_flush_all(writer), 0);
    part = broadcast_writer_part(writer, 0, &size);
    assert_memory_equal(part, "\"flush\":true,\"cause\":{\"topic\":\"t\",\"partition\":0,\"offset\":0}}",
                        size);
}

static void a_message_over_64_KiB_is_refused(void **state)
{
    struct broadcast broadcast;
    struct json_document document = {.text = NULL};
    static char message[BROADCAST_SIZE_MAX + 1];
    (void)state;
    memset(message, ' ', sizeof message);
    memcpy(message, "{\"v\":1,\"ns\":\"main\",\"epoch\":\"e\",\"seq\":1,\"flush\":true}", 52);
    assert_int_equal(broadcast_parse(&document, message, BROADCAST_SIZE_MAX, "main", &broadcast), 0);
    assert_true(broadcast.is_flush);
    assert_string_equal(broadcast.epoch, "e");
    assert_int_equal(broadcast.seq, 1);
    assert_int_equal(broadcast_parse(&document, message, BROADCAST_SIZE_MAX + 1, "main", &broadcast), -1);
    json_deinit(&document);
}

static void a_refused_message_leaves_the_result_alone(void **state)
{
    struct broadcast broadcast = {"before", 17, true};
    struct json_document document = {.text = NULL};
    static const char message[] = "{\"v\":1,\"ns\":\"main\",\"epoch\":\"e\",\"seq\":1,\"keys\":[\"\"]}";
    (void)state;
    assert_int_equal(broadcast_parse(&document, message, sizeof message - 1, "main", &broadcast), -1);
    assert_string_equal(broadcast.epoch, "before");
    assert_int_equal(broadcast.seq, 17);
    json_deinit(&document);
}

static void a_reader_may_leave_out_what_it_does_not_handle(void **state)
{
    struct broadcast broadcast;
    struct seen seen = {.count = 0};
    struct json_document document = {.text = NULL};
    const struct broadcast_handler handler = {.tag = see_tag, .arg = &seen};
    static const char message[] = "{\"v\":1,\"ns\":\"main\",\"epoch\":\"e\",\"seq\":1,\"keys\":[\"k\"],"
                                  "\"tags\":[\"t\"],\"patterns\":[\"p\"]}";
    (void)state;
    assert_int_equal(broadcast_parse(&document, message, sizeof message - 1, "main", &broadcast), 0);
    assert_int_equal(broadcast_visit(&document, &handler), 0);
    assert_int_equal(seen.count, 1);
    assert_true(has_seen(&seen, BROADCAST_TAGS, "t", 1));
    forget(&seen);
    json_deinit(&document);
}

static void count_key(void *arg, const void *key, size_t size)
{
    size_t *keys = arg;
    (void)key;
    *keys += size > 0;
}

/* @return 0 when all of it went well */
static int write_and_read(void)
{
    struct json_document document = {.text = NULL};
    struct broadcast broadcast;
    size_t keys = 0;
    char message[512];
    const struct broadcast_handler handler = {.key = count_key, .arg = &keys};
    struct broadcast_writer *writer = broadcast_writer_create();
    int result = -1;
    if (!writer)
        return -1;
    broadcast_writer_cause(writer, "t", 0, 0, "r");
    if (broadcast_writer_add(writer, BROADCAST_KEYS, "k\n", 2) < 0 ||
        broadcast_writer_add(writer, BROADCAST_KEYS, "\xff", 1) < 0 ||
        broadcast_writer_flush_all(writer) < 0 || broadcast_writer_finish(writer) < 0)
        goto out;
    assert_int_equal(broadcast_writer_count(writer), 2); /* what it has written is whole */
    size_t size, frame_size = put_frame(message, sizeof message, 1);
    const char *part = broadcast_writer_part(writer, 0, &size);
    memcpy(message + frame_size, part, size);
    if (broadcast_parse(&document, message, frame_size + size,
                        "0000000000000000000000000000000000000000000000000000000000000000", &broadcast) < 0 ||
        broadcast_visit(&document, &handler) < 0)
        goto out;
    assert_int_equal(keys, 2);
    result = 0;
out:
    broadcast_writer_destroy(&writer);
    json_deinit(&document);
    return result;
}

static void any_allocation_may_fail(void **state)
{
    long nth = 0;
    bool has_failed;
    (void)state;
    do {
        failing_malloc_arm(nth++);
        int result = write_and_read();
        has_failed = failing_malloc_disarm();
        assert_true(result == 0 || has_failed);
    } while (has_failed);
    assert_true(nth > 5);
    assert_int_equal(write_and_read(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_valid_sample_is_understood),
        cmocka_unit_test(every_invalid_sample_is_refused),
        cmocka_unit_test(what_no_schema_can_tell_is_refused_too),
        cmocka_unit_test_setup_teardown(names_of_any_bytes_arrive_as_they_were, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_added_is_nothing_said, setup, teardown),
        cmocka_unit_test_setup_teardown(many_names_are_split_into_full_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(the_longest_name_that_fits_is_sent_and_one_byte_more_flushes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_pattern_that_is_no_text_flushes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cause_is_in_every_part_unless_it_is_too_long, setup, teardown),
        cmocka_unit_test(a_message_over_64_KiB_is_refused),
        cmocka_unit_test(a_refused_message_leaves_the_result_alone),
        cmocka_unit_test(a_reader_may_leave_out_what_it_does_not_handle),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
