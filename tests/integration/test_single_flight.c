/* A thousand threads in four processes miss one key at the same time: one load. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "support.h"

#define PROCESSES 4
#define THREADS   250

static void a_thousand_threads_in_four_processes_load_once(void **state)
{
    (void)state;
    struct redis_server redis;
    struct proc services[PROCESSES];
    char *dir = tmp_make(), answer[256];
    redis_start(&redis, dir, NULL);
    for (int i = 0; i < PROCESSES; i++) {
        const char *const argv[] = {SERVICE_PATH, redis.unix_url, NULL};
        proc_spawn_piped(&services[i], argv, NULL);
        assert_int_equal(proc_ask(&services[i], "wait", answer, sizeof answer, 10000), 0);
        assert_string_equal(answer, "ok");
    }
    for (int round = 0; round < 3; round++) {
        char question[64];
        int loads = 0, size = snprintf(question, sizeof question, "storm key:%d %d\n", round, THREADS);
        for (int i = 0; i < PROCESSES; i++) /* all at once, then the answers */
            assert_int_equal(write(services[i].in, question, (size_t)size), size);
        for (int i = 0; i < PROCESSES; i++) {
            assert_int_equal(proc_read_line(&services[i], answer, sizeof answer, 30000), 0);
            if (strncmp(answer, "ok ", 3) != 0)
                fail_msg("process %d says \"%s\"", i, answer);
            loads += atoi(answer + 3);
        }
        assert_int_equal(loads, 1);
    }
    for (int i = 0; i < PROCESSES; i++)
        proc_kill(&services[i]);
    redis_stop(&redis);
    tmp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_threads_in_four_processes_load_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
