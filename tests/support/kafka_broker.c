/* kafka_broker: starts and ends a test's Kafka broker. What it says to the broker is in kafka_client.c. */
#include "kafka_broker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "kafka_client.h"
#include "wait.h"

#define START_DEADLINE_MS 180000 /* the first start of all downloads the broker */
#define STOP_DEADLINE_MS  15000
#define ADMIN_DEADLINE_MS 60000
#define START_TRIES       3 /* a port may be taken between its choice and its use */
#define ADMIN_ARGS_MAX    8
#define SCRIPT            SUPPORT_DIR "/kafka"

static void file_of(const struct kafka_broker *broker, const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s/%s", broker->dir, name);
}

/* @return the file's text, freed by the caller; NULL: there is no such file */
static char *read_text(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;

    if (!file)
        return NULL;
    if (getdelim(&text, &size, '\0', file) < 0 && text)
        text[0] = '\0'; /* empty */
    fclose(file);
    return text;
}

static bool serves(const struct kafka_broker *broker)
{
    char path[TMP_PATH_SIZE + 32];

    file_of(broker, "broker.log", path, sizeof(path));
    char *log = read_text(path);
    bool is_up = log && strstr(log, "Kafka Server started");
    free(log);
    return is_up;
}

static void show(const struct kafka_broker *broker, const char *name)
{
    char path[TMP_PATH_SIZE + 32];

    file_of(broker, name, path, sizeof(path));
    char *text = read_text(path);
    print_error("%s:\n%s\n", path, text ? text : "(none)");
    free(text);
}

static void forget(const struct kafka_broker *broker, const char *name)
{
    char path[TMP_PATH_SIZE + 32];

    file_of(broker, name, path, sizeof(path));
    unlink(path);
}

/* @return 0 when it serves, -1 when it ended instead */
static int launch(struct kafka_broker *broker)
{
    const char *const argv[] = {SCRIPT, "run", broker->dir, NULL};
    char log_path[TMP_PATH_SIZE + 32];
    int64_t end_ms = wait_now_ms() + START_DEADLINE_MS;

    file_of(broker, "start.log", log_path, sizeof(log_path));
    forget(broker, "broker.log"); /* an earlier run's would tell that it serves */
    proc_spawn(&broker->proc, argv, log_path);
    while (!serves(broker)) {
        if (!proc_runs(&broker->proc))
            return -1;
        if (!wait_more(end_ms)) {
            show(broker, "start.log");
            show(broker, "broker.log");
            fail_msg("the broker does not serve after %d ms", START_DEADLINE_MS);
        }
    }
    return 0;
}

static void read_port(struct kafka_broker *broker)
{
    char path[TMP_PATH_SIZE + 32];

    file_of(broker, "port", path, sizeof(path));
    char *port = read_text(path);
    assert_non_null(port);
    snprintf(broker->bootstrap, sizeof(broker->bootstrap), "127.0.0.1:%ld", strtol(port, NULL, 10));
    free(port);
}

void kafka_start(struct kafka_broker *broker, const char *dir)
{
    struct kafka_broker fresh = {0};
    char port_path[TMP_PATH_SIZE + 32];

    snprintf(fresh.dir, sizeof(fresh.dir), "%s", dir); /* dir may be the earlier broker's own */
    *broker = fresh;
    mkdir(broker->dir, 0755);
    file_of(broker, "port", port_path, sizeof(port_path));
    bool is_new = access(port_path, F_OK) != 0;
    for (int try = 0; try < START_TRIES; try++) {
        if (launch(broker) == 0) {
            read_port(broker);
            return;
        }
        if (is_new)
            forget(broker, "port"); /* perhaps it was taken: choose another */
    }
    show(broker, "start.log");
    show(broker, "broker.log");
    fail_msg("the broker does not start");
}

void kafka_stop(struct kafka_broker *broker)
{
    kafka_client_close(broker);
    proc_stop(&broker->proc, STOP_DEADLINE_MS);
    forget(broker, "pid");
}

void kafka_kill(struct kafka_broker *broker)
{
    kafka_client_close(broker);
    proc_kill(&broker->proc);
    forget(broker, "pid");
}

char *kafka_admin(struct kafka_broker *broker, ...)
{
    char bootstrap[64], out_path[TMP_PATH_SIZE + 32];
    const char *argv[3 + ADMIN_ARGS_MAX + 1] = {"env", bootstrap, SCRIPT};
    size_t count = 3;
    struct proc proc;
    int code = -1;
    va_list args;

    snprintf(bootstrap, sizeof(bootstrap), "KAFKA_BOOTSTRAP=%s", broker->bootstrap);
    va_start(args, broker);
    for (const char *arg = va_arg(args, const char *); arg; arg = va_arg(args, const char *)) {
        assert_true(count < 3 + ADMIN_ARGS_MAX);
        argv[count++] = arg;
    }
    va_end(args);
    file_of(broker, "admin.out", out_path, sizeof(out_path));
    unlink(out_path);
    proc_spawn(&proc, argv, out_path);
    if (proc_wait(&proc, ADMIN_DEADLINE_MS, &code) || code != 0) {
        proc_kill(&proc);
        show(broker, "admin.out");
        fail_msg("kafka %s failed", argv[3]);
    }
    char *out = read_text(out_path);
    assert_non_null(out);
    return out;
}
