/* Staying in step with the evictions: every way in which a message, a head or a log can disagree with what
 * was applied. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "follow.h"

static struct follow at(uint64_t applied)
{
    struct follow follow = {.applied = 0};
    follow_adopt(&follow, "run-1", "e1", applied);
    return follow;
}

static void the_next_broadcast_is_applied(void **state)
{
    (void)state;
    struct follow follow = at(7);
    assert_int_equal(follow_broadcast(&follow, "e1", 8), FOLLOW_APPLY);
    follow_applied(&follow, 8);
    assert_int_equal(follow_broadcast(&follow, "e1", 9), FOLLOW_APPLY);
}

static void one_heard_twice_is_skipped(void **state)
{
    (void)state;
    struct follow follow = at(7);
    assert_int_equal(follow_broadcast(&follow, "e1", 7), FOLLOW_SKIP);
    assert_int_equal(follow_broadcast(&follow, "e1", 1), FOLLOW_SKIP);
}

static void a_missing_one_is_read_from_the_log(void **state)
{
    (void)state;
    struct follow follow = at(7);
    assert_int_equal(follow_broadcast(&follow, "e1", 9), FOLLOW_REPLAY);
    assert_int_equal(follow_head(&follow, "run-1", "e1", 9, 7), FOLLOW_REPLAY);
    assert_int_equal(follow_log(&follow, "e1", 8), FOLLOW_APPLY);
    assert_int_equal(follow_log(&follow, "e1", 7), FOLLOW_SKIP);
}

static void a_log_that_begins_too_late_clears(void **state)
{
    (void)state;
    struct follow follow = at(7);
    assert_int_equal(follow_log(&follow, "e1", 9), FOLLOW_CLEAR);
    assert_int_equal(follow_log(&follow, "e2", 8), FOLLOW_CLEAR);
}

static void another_epoch_clears(void **state)
{
    (void)state;
    struct follow follow = at(7);
    assert_int_equal(follow_broadcast(&follow, "e2", 8), FOLLOW_CLEAR);
    assert_int_equal(follow_head(&follow, "run-1", "e2", 7, 7), FOLLOW_CLEAR);
}

static void another_server_clears_even_with_the_same_numbers(void **state)
{
    (void)state;
    struct follow follow = at(7);
    assert_int_equal(follow_head(&follow, "run-2", "e1", 7, 7), FOLLOW_CLEAR);
}

static void a_head_that_went_back_clears(void **state)
{
    (void)state;
    struct follow follow = at(7);
    assert_int_equal(follow_head(&follow, "run-1", "e1", 6, 7), FOLLOW_CLEAR);
}

static void messages_may_be_faster_than_the_heads_answer(void **state)
{
    (void)state;
    struct follow follow = at(7);
    follow_applied(&follow, 9); /* while the head, asked for at 7, answers 8 */
    assert_int_equal(follow_head(&follow, "run-1", "e1", 8, 7), FOLLOW_CURRENT);
    assert_int_equal(follow_head(&follow, "run-1", "e1", 9, 7), FOLLOW_CURRENT);
}

static void the_first_head_is_adopted(void **state)
{
    (void)state;
    struct follow follow = {.applied = 0};
    assert_int_equal(follow_head(&follow, "run-1", "e1", 0, 0), FOLLOW_CLEAR);
    assert_int_equal(follow_broadcast(&follow, "e1", 1), FOLLOW_CLEAR);
    follow_adopt(&follow, "run-1", "e1", 5);
    assert_int_equal(follow_head(&follow, "run-1", "e1", 5, 5), FOLLOW_CURRENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_broadcast_is_applied),
        cmocka_unit_test(one_heard_twice_is_skipped),
        cmocka_unit_test(a_missing_one_is_read_from_the_log),
        cmocka_unit_test(a_log_that_begins_too_late_clears),
        cmocka_unit_test(another_epoch_clears),
        cmocka_unit_test(another_server_clears_even_with_the_same_numbers),
        cmocka_unit_test(a_head_that_went_back_clears),
        cmocka_unit_test(messages_may_be_faster_than_the_heads_answer),
        cmocka_unit_test(the_first_head_is_adopted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
