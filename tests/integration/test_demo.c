/* `evictd demo` as a user runs it, but without a terminal: it shows what it should, and nothing of it stays
 * behind. */
#include <ctype.h>
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <hiredis/hiredis.h>

#include "support.h"

#define PROCESSES 5 /* evictd, the remover of its folder, redis-server, two services */
#define START_MS  30000
#define END_MS    15000

struct demo {
    char *outer, *dir; /* for its output; its TMPDIR */
    char log[TMP_PATH_SIZE + 16];
    char text[65536]; /* what it has said until now */
    struct proc proc;
};

/* @param path what it finds as PATH; NULL: what we have */
static void start(struct demo *demo, const char *path, const char *first, const char *second)
{
    static char tmpdir[TMP_PATH_SIZE + 16], path_setting[64];
    const char *const argv[] = {"env",  tmpdir, path ? path_setting : "_=", EVICTD_PATH, "demo", first,
                                second, NULL};
    memset(demo, 0, sizeof *demo);
    demo->outer = tmp_make();
    demo->dir = tmp_make();
    snprintf(demo->log, sizeof demo->log, "%s/demo.log", demo->outer);
    snprintf(tmpdir, sizeof tmpdir, "TMPDIR=%s", demo->dir);
    snprintf(path_setting, sizeof path_setting, "PATH=%s", path ? path : "");
    proc_spawn(&demo->proc, argv, demo->log);
}

static const char *output(struct demo *demo)
{
    FILE *file = fopen(demo->log, "r");
    size_t size = file ? fread(demo->text, 1, sizeof demo->text - 1, file) : 0;
    demo->text[size] = '\0';
    if (file)
        fclose(file);
    return demo->text;
}

static bool file_has(const char *path, const char *what)
{
    static char bytes[65536];
    FILE *file = fopen(path, "r");
    size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    if (file)
        fclose(file);
    return memmem(bytes, size, what, strlen(what)) != NULL;
}

static bool works_in(const char *link, const char *dir)
{
    char target[TMP_PATH_SIZE + 64];
    ssize_t size = readlink(link, target, sizeof target);
    return size > 0 && memmem(target, (size_t)size, dir, strlen(dir)) != NULL;
}

/* Processes that have the demo's TMPDIR in their environment or arguments, or work below it: redis-server
 * overwrites the first two. */
static int count_processes(const struct demo *demo)
{
    DIR *folder = opendir("/proc");
    struct dirent *entry;
    int count = 0;
    assert_non_null(folder);
    while ((entry = readdir(folder))) {
        char environment[300], arguments[300], work[300];
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(environment, sizeof environment, "/proc/%s/environ", entry->d_name);
        snprintf(arguments, sizeof arguments, "/proc/%s/cmdline", entry->d_name);
        snprintf(work, sizeof work, "/proc/%s/cwd", entry->d_name);
        count +=
            file_has(environment, demo->dir) || file_has(arguments, demo->dir) || works_in(work, demo->dir);
    }
    closedir(folder);
    return count;
}

static int count_files(const struct demo *demo)
{
    DIR *folder = opendir(demo->dir);
    struct dirent *entry;
    int count = 0;
    assert_non_null(folder);
    while ((entry = readdir(folder)))
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

/* The last "name=number" of its output; -1: none. */
static double number(struct demo *demo, const char *name)
{
    const char *found = NULL, *end = strstr(output(demo), "summary:");
    for (const char *at = end; at && (at = strstr(at, name)); at++) {
        if (at[strlen(name)] == '=')
            found = at + strlen(name) + 1;
    }
    return found ? strtod(found, NULL) : -1;
}

static void wait_playing(struct demo *demo)
{
    WAIT_FOR(START_MS, strstr(output(demo), "post-changed"), "its output is:\n%s", demo->text);
    assert_int_equal(count_processes(demo), PROCESSES);
    assert_int_equal(count_files(demo), 1);
}

static void wait_ended(struct demo *demo, int64_t deadline_ms, int expected_code)
{
    int code = -1;
    if (proc_wait(&demo->proc, deadline_ms, &code) < 0)
        fail_msg("it runs still, and said:\n%s", output(demo));
    if (code != expected_code)
        fail_msg("it ended with %d, and said:\n%s", code, output(demo));
}

static void expect_nothing_left(struct demo *demo)
{
    WAIT_FOR(END_MS, count_processes(demo) == 0, "%d processes are left", count_processes(demo));
    WAIT_FOR(END_MS, count_files(demo) == 0, "%s has %d files", demo->dir, count_files(demo));
    tmp_remove(demo->dir);
    tmp_remove(demo->outer);
}

static void it_shows_evictions_and_no_stale_read(void **state)
{
    struct demo demo;
    (void)state;
    start(&demo, NULL, "--seconds", "12");
    wait_playing(&demo);
    wait_ended(&demo, START_MS, 0);
    if (!(number(&demo, "events") > 200 && number(&demo, "matched") > 50 &&
          number(&demo, "keys_by_name") > 50 && number(&demo, "keys_by_tag") > 50 &&
          number(&demo, "reads") > 1000 && number(&demo, "hit_pct") > 90))
        fail_msg("it said:\n%s", demo.text);
    assert_true(number(&demo, "dead_letters") == 1);
    assert_true(number(&demo, "stale") == 0);
    expect_nothing_left(&demo);
}

static void an_interrupt_ends_it_with_a_summary(void **state)
{
    struct demo demo;
    (void)state;
    start(&demo, NULL, "--seconds", "600");
    wait_playing(&demo);
    proc_signal(&demo.proc, SIGINT);
    wait_ended(&demo, END_MS, 0);
    assert_true(number(&demo, "events") > 0);
    assert_true(number(&demo, "stale") == 0);
    expect_nothing_left(&demo);
}

static void an_interrupt_before_the_play_ends_it(void **state)
{
    struct demo demo;
    (void)state;
    start(&demo, NULL, "--seconds", "600");
    WAIT_FOR(START_MS, count_processes(&demo) == PROCESSES, "%d processes, output:\n%s",
             count_processes(&demo), output(&demo));
    proc_signal(&demo.proc, SIGTERM);
    wait_ended(&demo, END_MS, 0);
    expect_nothing_left(&demo);
}

static void killed_it_leaves_nothing(void **state)
{
    struct demo demo;
    (void)state;
    start(&demo, NULL, "--seconds", "600");
    wait_playing(&demo);
    proc_signal(&demo.proc, SIGKILL);
    wait_ended(&demo, END_MS, 128 + SIGKILL);
    expect_nothing_left(&demo);
}

static void kept_it_tells_where_redis_is(void **state)
{
    struct demo demo;
    (void)state;
    start(&demo, NULL, "--keep", NULL);
    wait_playing(&demo);
    const char *found = strstr(output(&demo), "redis-cli -p ");
    assert_non_null(found);
    redisContext *context = redisConnect("127.0.0.1", (int)strtol(found + strlen("redis-cli -p "), NULL, 10));
    assert_true(context && !context->err);
    redisReply *reply = redisCommand(context, "HGET evict:{main}:head seq");
    assert_non_null(reply);
    assert_int_equal(reply->type, REDIS_REPLY_STRING);
    freeReplyObject(reply);
    redisFree(context);
    proc_signal(&demo.proc, SIGTERM);
    wait_ended(&demo, END_MS, 0);
    expect_nothing_left(&demo);
}

static void a_missing_redis_server_is_said(void **state)
{
    struct demo demo;
    (void)state;
    start(&demo, "/nowhere", "--seconds", "600");
    wait_ended(&demo, END_MS, 1);
    if (!strstr(output(&demo), "redis-server is not in PATH"))
        fail_msg("it said:\n%s", demo.text);
    expect_nothing_left(&demo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_shows_evictions_and_no_stale_read),
        cmocka_unit_test(an_interrupt_ends_it_with_a_summary),
        cmocka_unit_test(an_interrupt_before_the_play_ends_it),
        cmocka_unit_test(killed_it_leaves_nothing),
        cmocka_unit_test(kept_it_tells_where_redis_is),
        cmocka_unit_test(a_missing_redis_server_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
