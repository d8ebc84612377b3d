#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "redis_url.h"

static void good_urls_are_understood(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        int port;
        const char *path, *user, *password;
        int db;
    } table[] = {
        {"redis://", "localhost", 6379, "", "", "", 0},
        {"redis://h", "h", 6379, "", "", "", 0},
        {"redis://h/", "h", 6379, "", "", "", 0},
        {"redis://h:1/15", "h", 1, "", "", "", 15},
        {"redis://:65535", "localhost", 65535, "", "", "", 0},
        {"redis://10.0.0.1:6380/0", "10.0.0.1", 6380, "", "", "", 0},
        {"redis://[::1]", "::1", 6379, "", "", "", 0},
        {"redis://[fe80::1%25eth0]:7/2", "fe80::1%eth0", 7, "", "", "", 2},
        {"redis://:secret@h", "h", 6379, "", "", "secret", 0},
        {"redis://joe:s:e@c@h:1", "h", 1, "", "joe", "s:e@c", 0},
        {"redis://j%6fe:%2f%3F%40%25@[::1]:1/3", "::1", 1, "", "joe", "/?@%", 3},
        {"redis://:@h", "h", 6379, "", "", "", 0},
        {"unix:///run/redis.sock", "", 6379, "/run/redis.sock", "", "", 0},
        {"unix:///a%20b%3f?db=2&password=p%26w&user=u", "", 6379, "/a b?", "u", "p&w", 2},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct redis_url url;
        char error[256] = "";
        if (redis_url_parse(table[i].text, &url, error, sizeof error) < 0)
            fail_msg("%s: %s", table[i].text, error);
        assert_string_equal(url.host, table[i].host);
        assert_int_equal(url.port, table[i].port);
        assert_string_equal(url.path, table[i].path);
        assert_string_equal(url.user, table[i].user);
        assert_string_equal(url.password, table[i].password);
        assert_int_equal(url.db, table[i].db);
    }
}

static void bad_urls_are_refused_with_a_text_and_leave_the_result_alone(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "h",
        "h:6379",
        "http://h",
        "REDIS://h",
        "redis:/h",
        "rediss://h",
        "valkey://h",
        "redis://h:",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:x",
        "redis://h:-1",
        "redis://h:1:2",
        "redis://h: 1",
        "redis://h/x",
        "redis://h/-1",
        "redis://h/1/",
        "redis://h/1?a=b",
        "redis://h?db=1",
        "redis://h/1000001",
        "redis://h/99999999999999999999",
        "redis://joe@h",
        "redis://joe:@h",
        "redis://:%@h",
        "redis://:%4@h",
        "redis://:%4g@h",
        "redis://:%00@h",
        "redis://%zz/",
        "redis://[::1",
        "redis://[::1]6379",
        "redis://[::1]:",
        "redis://:pass/word@h",
        "unix://",
        "unix://run/x",
        "unix://?db=1",
        "unix:///x?",
        "unix:///x?db=",
        "unix:///x?db=a",
        "unix:///x?db=1&",
        "unix:///x?timeout=1",
        "unix:///x?password=%0",
        "unix:///%00",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct redis_url url, before;
        char error[256] = "";
        memset(&url, 0x5a, sizeof url);
        before = url;
        if (redis_url_parse(bad[i], &url, error, sizeof error) == 0)
            fail_msg("%s was taken", bad[i]);
        assert_true(strlen(error) > 10);
        assert_memory_equal(&url, &before, sizeof url);
    }
}

static void parts_that_are_too_long_are_refused_not_cut(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after;
        size_t most;
    } table[] = {{"redis://", ":1", 255}, {"redis://", ":p@h", 127},        {"redis://:", "@h", 511},
                 {"unix:///", "", 106},   {"unix:///x?password=", "", 511}, {"unix:///x?user=", "", 127}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        for (size_t over = 0; over < 2; over++) {
            char text[1024], middle[600], error[256];
            struct redis_url url;
            memset(middle, 'a', table[i].most + over);
            middle[table[i].most + over] = '\0';
            snprintf(text, sizeof text, "%s%s%s", table[i].before, middle, table[i].after);
            assert_int_equal(redis_url_parse(text, &url, error, sizeof error), over ? -1 : 0);
        }
    }
}

static void a_password_shows_neither_in_errors_nor_in_print(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "redis://joe:hunter2@h:x",      "redis://:hunter2@h?x",        "redis://:hunter2@h/x",
        "unix:///x?pasword=hunter2",    "unix:///x?password=hunter2%", "unix:///x?=hunter2",
        "redis://:hunter2/hunter2@h:1", "rediss://:hunter2@h",         "redis://:hunter2%0@h"};
    char error[256], text[512];
    struct redis_url url;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(redis_url_parse(bad[i], &url, error, sizeof error), -1);
        if (strstr(error, "hunter2"))
            fail_msg("%s: %s", bad[i], error);
    }
    assert_int_equal(redis_url_parse("redis://joe:hunter2@h:1/2", &url, error, sizeof error), 0);
    redis_url_print(&url, text, sizeof text);
    assert_string_equal(text, "redis://h:1/2");
    assert_int_equal(redis_url_parse("redis://:hunter2@[::1]", &url, error, sizeof error), 0);
    redis_url_print(&url, text, sizeof text);
    assert_string_equal(text, "redis://[::1]:6379/0");
    assert_int_equal(redis_url_parse("unix:///x?password=hunter2&db=3", &url, error, sizeof error), 0);
    redis_url_print(&url, text, sizeof text);
    assert_string_equal(text, "unix:///x?db=3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_urls_are_understood),
        cmocka_unit_test(bad_urls_are_refused_with_a_text_and_leave_the_result_alone),
        cmocka_unit_test(parts_that_are_too_long_are_refused_not_cut),
        cmocka_unit_test(a_password_shows_neither_in_errors_nor_in_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
