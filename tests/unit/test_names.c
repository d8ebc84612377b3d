#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "failing_malloc.h"
#include "names.h"

static void every_name_of_a_namespace_shares_one_cluster_slot(void **state)
{
    (void)state;
    struct names names;
    assert_int_equal(names_init(&names, "blog", "tag:", "lease:"), 0);
    assert_string_equal(names.head, "evict:{blog}:head");
    assert_string_equal(names.log, "evict:{blog}:log");
    assert_string_equal(names.applied, "evict:{blog}:applied");
    assert_string_equal(names.fence[0], "evict:{blog}:fence:0");
    assert_string_equal(names.fence[1], "evict:{blog}:fence:1");
    assert_string_equal(names.tags, "evict:{blog}:tags");
    assert_string_equal(names.channel, "evict:{blog}");
    assert_string_equal(names.ns_json, "\"blog\"");
    names_deinit(&names);
    names_deinit(&names); /* fine twice */
    assert_null(names.head);
}

static void names_that_would_need_escapes_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "a b", "a}", "{a", "a\"", "a\\", "a\n", "\xc3\xa4", "a*", "a/b"};
    struct names names;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(names_init(&names, bad[i], "tag:", "lease:"), -1);
        assert_int_equal(names_init(&names, "main", bad[i], "lease:"), -1);
        assert_int_equal(names_init(&names, "main", "tag:", bad[i]), -1);
        names_deinit(&names); /* a refused one is empty */
    }
}

static void a_name_has_at_most_64_bytes(void **state)
{
    (void)state;
    struct names names;
    char name[66];
    memset(name, 'n', sizeof name);
    name[64] = '\0';
    assert_int_equal(names_init(&names, name, name, name), 0);
    names_deinit(&names);
    name[64] = 'n';
    name[65] = '\0';
    assert_int_equal(names_init(&names, name, "tag:", "lease:"), -1);
}

static const char *lease_of(const struct names *names, const char *key)
{
    static char out[256];
    size_t size = names_lease(names, key, strlen(key), out);
    assert_true(size <= strlen(names->lease_prefix) + 2 * strlen(key) + 4);
    out[size] = '\0';
    return out;
}

static void a_lease_shares_the_slot_of_its_key(void **state)
{
    (void)state;
    struct names names;
    assert_int_equal(names_init(&names, "main", "tag:", "lease:"), 0);
    assert_string_equal(lease_of(&names, "post:1"), "lease:{post:1}");
    assert_string_equal(lease_of(&names, "post:{17}:x"), "lease:{17}:post:{17}:x");
    assert_string_equal(lease_of(&names, "{a}{b}"), "lease:{a}:{a}{b}");
    /* The first '}' after the first '{' ends the hash tag, whatever is in between. */
    assert_string_equal(lease_of(&names, "x{{y}z}"), "lease:{{y}:x{{y}z}");
    /* Without a closing brace there is no hash tag: the whole key counts. */
    assert_string_equal(lease_of(&names, "a{b"), "lease:{a{b}");
    assert_string_equal(lease_of(&names, "{}a"), "lease:{{}a}");
    names_deinit(&names);
}

static void keys_are_binary(void **state)
{
    (void)state;
    struct names names;
    char out[64];
    assert_int_equal(names_init(&names, "main", "tag:", "l:"), 0);
    assert_int_equal(names_lease(&names, "\0{\xff\0}", 5, out), 12);
    assert_memory_equal(out, "l:{\xff\0}:\0{\xff\0}", 12);
    names_deinit(&names);
}

static void any_allocation_may_fail(void **state)
{
    struct names names;
    bool has_failed = true;
    (void)state;
    for (long nth = 0; has_failed; nth++) {
        failing_malloc_arm(nth);
        int result = names_init(&names, "main", "tag:", "lease:");
        has_failed = failing_malloc_disarm();
        assert_int_equal(result, has_failed ? -1 : 0);
        names_deinit(&names);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_of_a_namespace_shares_one_cluster_slot),
        cmocka_unit_test(names_that_would_need_escapes_are_refused),
        cmocka_unit_test(a_name_has_at_most_64_bytes),
        cmocka_unit_test(a_lease_shares_the_slot_of_its_key),
        cmocka_unit_test(keys_are_binary),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
