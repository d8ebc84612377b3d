#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "text.h"

/* What RFC 3629 says, code point by code point: encode each and see that it, and nothing else, is taken. */
static void every_code_point_is_valid_but_for_surrogates(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x112000; code++) {
        char s[4];
        size_t size;
        if (code < 0x80) {
            size = 1;
            s[0] = (char)code;
        } else if (code < 0x800) {
            size = 2;
            s[0] = (char)(0xc0 | code >> 6);
        } else if (code < 0x10000) {
            size = 3;
            s[0] = (char)(0xe0 | code >> 12);
        } else {
            size = 4;
            s[0] = (char)(0xf0 | code >> 18);
        }
        for (size_t i = 1; i < size; i++)
            s[i] = (char)(0x80 | (code >> 6 * (size - 1 - i) & 63));
        bool is_good = code < 0x110000 && !(code >= 0xd800 && code <= 0xdfff);
        if (utf8_is_valid(s, size) != is_good)
            fail_msg("U+%04X", code);
        for (size_t cut = 1; cut < size; cut++)
            assert_false(utf8_is_valid(s, cut));
    }
}

static void overlong_and_stray_bytes_are_not_utf8(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80",        "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf5\x80\x80\x80",
        "\xff",        "\xfe", "a\xc3",    "\xc3(",    "\xe2\x82(",    "\xe2(\xa1",        "\xf0\x9f\x98(",
        "\xc3\xa4\xa4"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(utf8_is_valid(bad[i], strlen(bad[i])));
    assert_true(utf8_is_valid("", 0));
    assert_true(utf8_is_valid("a\0b", 3));
    assert_true(utf8_is_valid("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80", 15));
}

static void base64_knows_the_vectors_of_rfc_4648(void **state)
{
    (void)state;
    static const char *const table[][2] = {
        {"f", "Zg=="},         {"fo", "Zm8="},         {"foo", "Zm9v"},         {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}, {"\xff\xfe\xfb", "//77"}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char out[16];
        size_t size = strlen(table[i][0]), text_size = strlen(table[i][1]);
        assert_int_equal(base64_size(size), text_size);
        base64_encode(table[i][0], size, out);
        assert_memory_equal(out, table[i][1], text_size);
        assert_int_equal(base64_decode(table[i][1], text_size, out), size);
        assert_memory_equal(out, table[i][0], size);
    }
    assert_int_equal(base64_size(0), 0);
    assert_int_equal(base64_decode("", 0, NULL), 0);
}

static void base64_carries_any_bytes(void **state)
{
    (void)state;
    unsigned char bytes[300], back[300];
    char text[400];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 256);
    for (size_t size = 0; size <= sizeof bytes; size++) {
        base64_encode(bytes, size, text);
        assert_int_equal(base64_decode(text, base64_size(size), back), size);
        assert_memory_equal(back, bytes, size);
    }
}

static void what_is_not_base64_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"Z",        "Zg",       "Zg=",  "Zg=v", "Z===", "====", "=Zg=",
                                      "Zg==Zg==", "Zm8=Zm8=", "Zm 9", "Zm9_", "Zm9-", "Zm\n9"};
    char out[16];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(base64_decode(bad[i], strlen(bad[i]), out), -1);
    assert_int_equal(base64_decode("Zm\0v", 4, out), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_is_valid_but_for_surrogates),
        cmocka_unit_test(overlong_and_stray_bytes_are_not_utf8),
        cmocka_unit_test(base64_knows_the_vectors_of_rfc_4648),
        cmocka_unit_test(base64_carries_any_bytes),
        cmocka_unit_test(what_is_not_base64_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
