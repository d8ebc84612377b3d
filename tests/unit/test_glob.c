#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "glob.h"

static bool matches(const char *glob, const char *text)
{
    return glob_match(glob, strlen(glob), text, strlen(text));
}

/* The tables say what Redis does; tests/integration/test_scripts.c asks a real one. */
static void globs_match_as_redis_does(void **state)
{
    (void)state;
    static const char *const yes[][2] = {
        {"*", "x"},        {"a", "a"},
        {"a*", "a"},       {"a*", "abc"},
        {"*c", "abc"},     {"a*c", "abbbc"},
        {"a**c", "ac"},    {"*a*b*c*", "xaxbxcx"},
        {"*aab", "aaaab"}, {"a*b*c", "abbcbc"},
        {"a?c", "abc"},    {"[abc]", "b"},
        {"[a-c]x", "bx"},  {"[c-a]", "b"},
        {"[^a]", "b"},     {"[^a-c]", "d"},
        {"[a\\]]", "]"},   {"[\\^a]", "^"},
        {"[a^]", "^"},     {"[a-]", "]"},
        {"[a-", "-"},      {"[abc", "b"},
        {"[^", "x"},       {"\\*", "*"},
        {"\\?a", "?a"},    {"\\", "\\"},
        {"a\\", "a\\"},    {"\\a", "a"},
        {"]", "]"},        {"user:[0-9]:*", "user:7:x"},
        {"", ""},          {"[\\a-c]", "-"},
    };
    static const char *const no[][2] = {
        {"", "a"},       {"a", ""},        {"a", "b"},   {"a*", "ba"},   {"*c", "abcd"},
        {"a*c", "abcb"}, {"a?c", "ac"},    {"?", "ab"},  {"[abc]", "d"}, {"[^a]", "a"},
        {"[a-c]", "d"},  {"[]", "x"},      {"[", "["},   {"[^a", "a"},   {"\\*", "x"},
        {"[a-c]", "-"},  {"[\\a-c]", "b"}, {"a*b", "a"}, {"A", "a"},
    };
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        if (!matches(yes[i][0], yes[i][1]))
            fail_msg("%s does not match %s", yes[i][0], yes[i][1]);
    }
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        if (matches(no[i][0], no[i][1]))
            fail_msg("%s matches %s", no[i][0], no[i][1]);
    }
}

static void names_are_binary(void **state)
{
    (void)state;
    assert_true(glob_match("a?b", 3, "a\0b", 3));
    assert_true(glob_match("a\0*", 3, "a\0b", 3));
    assert_false(glob_match("a\0c", 3, "a\0b", 3));
    assert_true(glob_match("\xff*", 2, "\xff\xfe", 2));
}

static void many_stars_end_in_bounded_time(void **state)
{
    (void)state;
    static char glob[20001], text[20000];
    for (size_t i = 0; i < sizeof glob; i++)
        glob[i] = i % 2 ? '*' : 'a';
    memset(text, 'a', sizeof text);
    glob[sizeof glob - 1] = 'b';
    clock_t begin = clock();
    assert_false(glob_match(glob, sizeof glob, text, sizeof text)); /* recursion would not end in this life */
    assert_true(clock() - begin < 20 * CLOCKS_PER_SEC);
}

static void an_escaped_name_matches_itself_only(void **state)
{
    (void)state;
    char name[256], glob[512];
    for (size_t i = 0; i < sizeof name; i++)
        name[i] = (char)i;
    size_t size = glob_escape(name, sizeof name, glob);
    assert_true(size <= sizeof glob);
    assert_true(glob_match(glob, size, name, sizeof name));
    for (size_t i = 0; i < sizeof name; i++) {
        name[i]++;
        assert_false(glob_match(glob, size, name, sizeof name));
        name[i]--;
    }
    assert_false(glob_match(glob, size, name, sizeof name - 1));
    assert_int_equal(glob_escape("a*?[]\\^b", 8, glob), 14);
    assert_memory_equal(glob, "a\\*\\?\\[\\]\\\\\\^b", 14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(globs_match_as_redis_does),
        cmocka_unit_test(names_are_binary),
        cmocka_unit_test(many_stars_end_in_bounded_time),
        cmocka_unit_test(an_escaped_name_matches_itself_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
