/* The servers that the other tests stand on: they start, work, crash, come back, and leave nothing behind. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "support.h"

static char *dir;

static int make_dir(void **state)
{
    (void)state;
    dir = tmp_make();
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    char path[TMP_PATH_SIZE];
    snprintf(path, sizeof(path), "%s", dir);
    tmp_remove(dir);
    assert_int_equal(access(path, F_OK), -1);
    return 0;
}

static const char *in_dir(const char *name)
{
    static char path[2 * TMP_PATH_SIZE];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void a_redis_answers_on_both_its_addresses_and_ends(void **state)
{
    (void)state;
    struct redis_server redis;
    redis_start(&redis, in_dir("redis"), NULL);
    freeReplyObject(redis_cmd(&redis, "SET %s %d", "n", 41));
    assert_int_equal(redis_integer(&redis, "INCR n"), 42);
    assert_int_equal(redis_integer(&redis, "GET n"), 42);
    assert_true(redis_integer(&redis, "GET none") == INT64_MIN);
    redisContext *tcp = redisConnect("127.0.0.1", redis.port);
    assert_int_equal(tcp->err, 0);
    redisFree(tcp);
    pid_t pid = redis.proc.pid;
    assert_true(pid_runs(pid));
    redis_stop(&redis);
    assert_false(pid_runs(pid));
}

static void a_killed_redis_comes_back_with_what_it_saved(void **state)
{
    (void)state;
    const char *const args[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    struct redis_server redis;
    redis_start(&redis, in_dir("redis"), args);
    uint16_t port = redis.port;
    freeReplyObject(redis_cmd(&redis, "SET n 1"));
    redis_kill(&redis);
    redis_restart(&redis);
    assert_int_equal(redis.port, port);
    assert_int_equal(redis_integer(&redis, "GET n"), 1);
    redis_stop(&redis);
}

static void check_message(const rd_kafka_message_t *message, const char *key, const char *value)
{
    assert_non_null(message);
    assert_int_equal(message->key_len, strlen(key));
    assert_memory_equal(message->key, key, strlen(key));
    assert_int_equal(message->len, strlen(value));
    assert_memory_equal(message->payload, value, strlen(value));
}

static void check_header(const rd_kafka_message_t *message, const char *name, const char *text)
{
    rd_kafka_headers_t *headers;
    const void *value;
    size_t size;
    assert_int_equal(rd_kafka_message_headers(message, &headers), 0);
    assert_int_equal(rd_kafka_header_get_last(headers, name, &value, &size), 0);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(value, text, size);
}

static void a_broker_keeps_what_is_produced_also_over_a_crash(void **state)
{
    (void)state;
    struct kafka_broker broker;
    int64_t first, next;
    kafka_start(&broker, in_dir("broker"));
    kafka_create_topic(&broker, "t", 2);
    kafka_produce(&broker, "t", 1, "k", 1, "v0", 2, "trace", "abc", NULL);
    kafka_produce(&broker, "t", 1, "k", 1, NULL, 0, NULL);
    kafka_flush(&broker);
    pid_t pid = broker.proc.pid;
    kafka_kill(&broker);
    assert_false(pid_runs(pid));

    kafka_start(&broker, broker.dir);
    rd_kafka_message_t *message = kafka_read(&broker, "t", 1, 0, 10000);
    check_message(message, "k", "v0");
    check_header(message, "trace", "abc");
    rd_kafka_message_destroy(message);
    message = kafka_read(&broker, "t", 1, 1, 10000);
    assert_non_null(message);
    assert_null(message->payload);
    rd_kafka_message_destroy(message);
    kafka_produce_text(&broker, "t", "k", "text");
    kafka_flush(&broker);
    kafka_delete_records(&broker, "t", 1, 1);
    kafka_offsets(&broker, "t", 1, &first, &next);
    assert_int_equal(first, 1);
    assert_true(next >= 2);
    assert_int_equal(kafka_committed(&broker, "nobody", "t", 1), -1);
    pid = broker.proc.pid;
    kafka_stop(&broker);
    assert_false(pid_runs(pid));
}

static void a_topic_can_be_deleted_and_made_anew(void **state)
{
    (void)state;
    struct kafka_broker broker;
    int64_t first, next;
    kafka_start(&broker, in_dir("broker"));
    kafka_create_topic(&broker, "t", 1);
    kafka_produce_text(&broker, "t", "k", "v");
    kafka_flush(&broker);
    kafka_delete_topic(&broker, "t");
    kafka_create_topic(&broker, "t", 3);
    kafka_offsets(&broker, "t", 0, &first, &next);
    assert_int_equal(next, 0);
    kafka_produce(&broker, "t", 2, "k", 1, "new", 3, NULL);
    kafka_flush(&broker);
    rd_kafka_message_t *message = kafka_read(&broker, "t", 2, 0, 10000);
    check_message(message, "k", "new");
    rd_kafka_message_destroy(message);
    char *offsets = kafka_admin(&broker, "offsets", "t", NULL);
    assert_string_equal(offsets, "0 0 0\n1 0 0\n2 0 1\n");
    free(offsets);
    kafka_stop(&broker);
}

static void a_child_answers_line_by_line_and_tells_how_it_ended(void **state)
{
    (void)state;
    const char *const argv[] = {
        "sh", "-c", "while read -r line; do echo \"<$line>\"; [ \"$line\" != end ] || exit 7; done", NULL};
    struct proc child;
    char answer[32], small[4];
    int code;
    proc_spawn_piped(&child, argv, NULL);
    assert_int_equal(proc_ask(&child, "a b", answer, sizeof(answer), 5000), 0);
    assert_string_equal(answer, "<a b>");
    assert_int_equal(proc_read_line(&child, answer, sizeof(answer), 20), -1);
    assert_int_equal(proc_ask(&child, "too long", small, sizeof(small), 5000), -1);
    assert_int_equal(proc_wait(&child, 20, NULL), -1);
    assert_int_equal(proc_read_line(&child, answer, sizeof(answer), 5000), 0);
    assert_string_equal(answer, "<too long>");
    assert_int_equal(proc_ask(&child, "end", answer, sizeof(answer), 5000), 0);
    assert_int_equal(proc_wait(&child, 5000, &code), 0);
    assert_int_equal(code, 7);
    assert_int_equal(proc_ask(&child, "more", answer, sizeof(answer), 5000), -1);
    proc_kill(&child);
}

struct left {
    pid_t server_pid;
    char dir[TMP_PATH_SIZE];
};

/* Another test program, in a child: starts a server in a folder and ends without any teardown. */
static struct left abandon_a_server(bool crashes)
{
    struct left left;
    int told[2];
    assert_int_equal(pipe(told), 0);
    pid_t test_pid = fork();
    if (test_pid == 0) {
        struct redis_server redis;
        snprintf(left.dir, sizeof(left.dir), "%s", tmp_make());
        redis_start(&redis, left.dir, NULL);
        left.server_pid = redis.proc.pid;
        if (write(told[1], &left, sizeof(left)) != sizeof(left))
            abort();
        if (crashes)
            raise(SIGKILL);
        exit(EXIT_FAILURE);
    }
    assert_true(read(told[0], &left, sizeof(left)) == sizeof(left));
    assert_int_equal(waitpid(test_pid, NULL, 0), test_pid);
    close(told[0]);
    close(told[1]);
    return left;
}

static void a_test_that_fails_leaves_no_server_and_no_folder(void **state)
{
    (void)state;
    struct left left = abandon_a_server(false);
    assert_false(pid_runs(left.server_pid));
    assert_int_equal(access(left.dir, F_OK), -1);
}

static void a_test_that_crashes_leaves_no_server(void **state)
{
    (void)state;
    setenv("TMPDIR", dir, 1); /* nobody else would remove the folder */
    struct left left = abandon_a_server(true);
    unsetenv("TMPDIR");
    WAIT_FOR(5000, !pid_runs(left.server_pid), "redis-server %d still runs", (int)left.server_pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_redis_answers_on_both_its_addresses_and_ends, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_killed_redis_comes_back_with_what_it_saved, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_broker_keeps_what_is_produced_also_over_a_crash, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(a_topic_can_be_deleted_and_made_anew, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_child_answers_line_by_line_and_tells_how_it_ended, make_dir,
                                        remove_dir),
        cmocka_unit_test(a_test_that_fails_leaves_no_server_and_no_folder),
        cmocka_unit_test_setup_teardown(a_test_that_crashes_leaves_no_server, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
