/* Where a partition starts, for every combination of what Kafka, Redis and this process remember. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "align.h"

#define NONE ALIGN_UNKNOWN

static struct align_decision decide(int64_t committed, int64_t applied, int64_t position, bool has_gap)
{
    struct align_input input = {committed, applied, position, has_gap, START_EARLIEST};
    return align_decide(&input);
}

static void expect_offset(struct align_decision decision, int64_t offset, bool is_rewind, bool must_flush)
{
    assert_int_equal(decision.start, ALIGN_OFFSET);
    assert_int_equal(decision.offset, offset);
    assert_int_equal(decision.is_rewind, is_rewind);
    assert_int_equal(decision.must_flush, must_flush);
}

static void a_new_group_starts_where_the_setting_says(void **state)
{
    (void)state;
    struct align_input input = {NONE, NONE, NONE, false, START_EARLIEST};
    assert_int_equal(align_decide(&input).start, ALIGN_EARLIEST);
    input.start = START_LATEST;
    assert_int_equal(align_decide(&input).start, ALIGN_LATEST);
    assert_false(align_decide(&input).must_flush);
}

static void redis_and_kafka_agree(void **state)
{
    (void)state;
    expect_offset(decide(100, 100, NONE, false), 100, false, false);
}

static void a_crash_before_the_commit_reads_again_from_the_commit(void **state)
{
    (void)state;
    expect_offset(decide(100, 150, NONE, false), 100, false, false);
}

static void redis_that_lost_state_rewinds(void **state)
{
    (void)state;
    expect_offset(decide(100, 40, NONE, false), 40, true, false);
    expect_offset(decide(100, 40, 120, false), 40, true, false);
    expect_offset(decide(NONE, 40, 120, false), 40, true, false);
}

static void a_reconnect_goes_on_where_redis_acknowledged(void **state)
{
    (void)state;
    expect_offset(decide(100, 150, 150, false), 150, false, false);
    /* Redis applied a batch whose answer was lost. */
    expect_offset(decide(100, 160, 150, false), 150, false, false);
}

static void redis_that_knows_nothing_is_flushed(void **state)
{
    (void)state;
    expect_offset(decide(100, NONE, NONE, false), 100, false, true);
    expect_offset(decide(100, NONE, 130, false), 130, false, true);
}

static void offsets_that_kafka_forgot_come_from_redis(void **state)
{
    (void)state;
    expect_offset(decide(NONE, 70, NONE, false), 70, false, false);
}

static void a_gap_flushes_and_goes_on_at_the_earliest(void **state)
{
    (void)state;
    struct align_decision decision = decide(100, 100, 100, true);
    assert_int_equal(decision.start, ALIGN_EARLIEST);
    assert_true(decision.must_flush);
    /* Also where Redis had lost state as well: the flush covers both. */
    decision = decide(100, 40, 100, true);
    assert_int_equal(decision.start, ALIGN_EARLIEST);
    assert_true(decision.must_flush);
}

/* Whatever the three remember: what is skipped was applied by a Redis that still has it, or is flushed. */
static void nothing_is_skipped_in_any_combination(void **state)
{
    (void)state;
    for (int64_t committed = -1; committed <= 4; committed++) {
        for (int64_t applied = -1; applied <= 4; applied++) {
            for (int64_t position = -1; position <= 4; position++) {
                struct align_decision decision = decide(committed, applied, position, false);
                if (decision.start == ALIGN_OFFSET && !decision.must_flush)
                    assert_true(decision.offset <= applied);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_group_starts_where_the_setting_says),
        cmocka_unit_test(redis_and_kafka_agree),
        cmocka_unit_test(a_crash_before_the_commit_reads_again_from_the_commit),
        cmocka_unit_test(redis_that_lost_state_rewinds),
        cmocka_unit_test(a_reconnect_goes_on_where_redis_acknowledged),
        cmocka_unit_test(redis_that_knows_nothing_is_flushed),
        cmocka_unit_test(offsets_that_kafka_forgot_come_from_redis),
        cmocka_unit_test(a_gap_flushes_and_goes_on_at_the_earliest),
        cmocka_unit_test(nothing_is_skipped_in_any_combination),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
