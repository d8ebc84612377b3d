#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "resp.h"

/* Sanitizers abort when there is no memory, unless told to answer NULL as malloc does. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void check(const struct resp *resp, const char *expected, size_t size)
{
    assert_false(resp->has_failed);
    assert_int_equal(resp->size, size);
    assert_memory_equal(resp->data, expected, size);
}

#define CHECK(resp, literal) check(resp, literal, sizeof literal - 1)

static void a_command_is_an_array_of_bulk_strings(void **state)
{
    (void)state;
    struct resp resp;
    resp_init(&resp);
    resp_array(&resp, 3);
    resp_text(&resp, "SET");
    resp_bulk(&resp, "k\0\r\n", 4);
    resp_bulk(&resp, NULL, 0);
    CHECK(&resp, "*3\r\n$3\r\nSET\r\n$4\r\nk\0\r\n\r\n$0\r\n\r\n");
    resp_deinit(&resp);
}

static void numbers_keep_every_digit(void **state)
{
    (void)state;
    struct resp resp;
    resp_init(&resp);
    resp_number(&resp, 0);
    resp_number(&resp, -1);
    resp_number(&resp, INT64_MAX);
    resp_number(&resp, INT64_MIN);
    CHECK(&resp, "$1\r\n0\r\n$2\r\n-1\r\n$19\r\n9223372036854775807\r\n$20\r\n-9223372036854775808\r\n");
    resp_deinit(&resp);
}

static void a_cleared_buffer_starts_again_in_the_same_memory(void **state)
{
    (void)state;
    struct resp resp;
    resp_init(&resp);
    resp_append(&resp, "old", 3);
    const char *data = resp.data;
    resp_clear(&resp);
    resp_append(&resp, "n", 1);
    CHECK(&resp, "n");
    assert_ptr_equal(resp.data, data);
    resp_deinit(&resp);
}

static void it_grows_as_needed(void **state)
{
    (void)state;
    struct resp resp;
    const size_t size = 1000003;
    char *big = malloc(size);
    assert_non_null(big);
    memset(big, 'x', size);
    resp_init(&resp);
    resp_bulk(&resp, big, size);
    for (int i = 0; i < 10000; i++)
        resp_append(&resp, "abc", 3);
    assert_false(resp.has_failed);
    assert_int_equal(resp.size, 10 + size + 2 + 30000);
    assert_memory_equal(resp.data, "$1000003\r\nxxx", 13);
    assert_memory_equal(resp.data + resp.size - 4, "cabc", 4);
    resp_deinit(&resp);
    free(big);
}

static void appending_nothing_to_nothing_is_fine(void **state)
{
    (void)state;
    struct resp resp;
    resp_init(&resp);
    resp_append(&resp, NULL, 0);
    resp_append(&resp, "", 0);
    assert_false(resp.has_failed);
    assert_int_equal(resp.size, 0);
    resp_deinit(&resp);
}

static void want_of_memory_sticks_until_cleared(void **state)
{
    (void)state;
    struct resp resp;
    resp_init(&resp);
    resp_append(&resp, "a", 1);
    resp_append(&resp, "", (size_t)1 << 62); /* reserved before it is read: there is no such room */
    assert_true(resp.has_failed);
    resp_text(&resp, "b");
    resp_number(&resp, 1);
    resp_array(&resp, 1);
    assert_true(resp.has_failed);
    assert_int_equal(resp.size, 1);
    resp_clear(&resp);
    resp_append(&resp, "c", 1);
    CHECK(&resp, "c");
    resp_deinit(&resp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_is_an_array_of_bulk_strings),
        cmocka_unit_test(numbers_keep_every_digit),
        cmocka_unit_test(a_cleared_buffer_starts_again_in_the_same_memory),
        cmocka_unit_test(it_grows_as_needed),
        cmocka_unit_test(appending_nothing_to_nothing_is_fine),
        cmocka_unit_test(want_of_memory_sticks_until_cleared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
