#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "batch.h"

static int setup(void **state)
{
    *state = batch_create(42);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    struct batch *batch = *state;
    batch_destroy(&batch);
    return 0;
}

static void names_that_repeat_collapse(void **state)
{
    struct batch *batch = *state;
    size_t keys, tags;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(batch_add_key(batch, "post:1", 6), 0);
        assert_int_equal(batch_add_tag(batch, "post:1", 6), 0); /* a tag of a key's name is another thing */
        assert_int_equal(batch_add_tag(batch, "author:4", 8), 0);
    }
    assert_memory_equal(batch_keys(batch, &keys)[0].data, "post:1", 6);
    batch_tags(batch, &tags);
    assert_int_equal(keys, 1);
    assert_int_equal(tags, 2);
}

static void many_names_are_all_kept_once(void **state)
{
    struct batch *batch = *state;
    char name[32];
    size_t tags;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 20000; i++) {
            int size = snprintf(name, sizeof name, "tag:%d", i);
            assert_int_equal(batch_add_tag(batch, name, (size_t)size), 0);
        }
    }
    const struct invalidate_slice *slices = batch_tags(batch, &tags);
    assert_int_equal(tags, 20000);
    for (int i = 0; i < 20000; i++) {
        size_t size = (size_t)snprintf(name, sizeof name, "tag:%d", i);
        assert_int_equal(slices[i].size, size);
        assert_memory_equal(slices[i].data, name, size);
    }
    assert_true(batch_is_full(batch));
}

static void binary_and_long_names_are_kept(void **state)
{
    struct batch *batch = *state;
    static char huge[65535];
    size_t keys;
    memset(huge, 'x', sizeof huge);
    assert_int_equal(batch_add_key(batch, "a\0b", 3), 0);
    assert_int_equal(batch_add_key(batch, "a\0c", 3), 0);
    assert_int_equal(batch_add_key(batch, huge, sizeof huge), 0);
    assert_int_equal(batch_add_key(batch, huge, sizeof huge - 1), 0);
    const struct invalidate_slice *slices = batch_keys(batch, &keys);
    assert_int_equal(keys, 4);
    assert_memory_equal(slices[1].data, "a\0c", 3);
    assert_int_equal(slices[2].size, sizeof huge);
}

static void each_partition_keeps_its_first_and_last_offset(void **state)
{
    struct batch *batch = *state;
    int one, two;
    assert_true(batch_is_empty(batch));
    assert_int_equal(batch_advance(batch, &one, "g/t/0", 10, 11), 0);
    assert_int_equal(batch_advance(batch, &two, "g/t/1", -1, 6), 0);
    assert_int_equal(batch_advance(batch, &one, "g/t/0", 11, 15), 0);
    assert_false(batch_is_empty(batch));
    assert_int_equal(batch->events, 3);
    assert_int_equal(batch->partitions_count, 2);
    assert_string_equal(batch->partitions[0].field, "g/t/0");
    assert_int_equal(batch->partitions[0].from, 10);
    assert_int_equal(batch->partitions[0].next, 15);
    assert_int_equal(batch->partitions[1].from, -1);
}

static void a_cleared_batch_is_as_new(void **state)
{
    struct batch *batch = *state;
    int partition;
    size_t count;
    assert_int_equal(batch_add_key(batch, "k", 1), 0);
    assert_int_equal(batch_advance(batch, &partition, "f", 0, 1), 0);
    batch_explain(batch, "why");
    batch_clear(batch);
    assert_true(batch_is_empty(batch));
    assert_false(batch_is_full(batch));
    batch_keys(batch, &count);
    assert_int_equal(count, 0);
    assert_int_equal(batch->partitions_count, 0);
    assert_int_equal(batch->explained_size, 0);
    assert_int_equal(batch_add_key(batch, "k", 1), 0);
    batch_keys(batch, &count);
    assert_int_equal(count, 1);
}

static void events_that_match_nothing_fill_it_too(void **state)
{
    struct batch *batch = *state;
    int partition;
    for (int64_t i = 0; i < BATCH_EVENTS_MAX; i++) {
        assert_false(batch_is_full(batch));
        assert_int_equal(batch_advance(batch, &partition, "f", i, i + 1), 0);
    }
    assert_true(batch_is_full(batch));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_that_repeat_collapse, setup, teardown),
        cmocka_unit_test_setup_teardown(many_names_are_all_kept_once, setup, teardown),
        cmocka_unit_test_setup_teardown(binary_and_long_names_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(each_partition_keeps_its_first_and_last_offset, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cleared_batch_is_as_new, setup, teardown),
        cmocka_unit_test_setup_teardown(events_that_match_nothing_fill_it_too, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
