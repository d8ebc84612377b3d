/* redis_server: starts and ends a test's Redis, and talks to it. */
#include "redis_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "wait.h"

#define START_DEADLINE_MS 15000
#define STOP_DEADLINE_MS  10000
#define START_TRIES       5 /* a port may be taken between its choice and its use */
#define CMD_TIMEOUT_S     10

static void launch(struct redis_server *server)
{
    char port[8];
    const char *argv[32] = {"redis-server",
                            "--port",
                            port,
                            "--bind",
                            "127.0.0.1",
                            "--unixsocket",
                            server->socket_path,
                            "--dir",
                            server->dir,
                            "--save",
                            "",
                            "--appendonly",
                            "no"};
    size_t count = 0;

    while (argv[count])
        count++;
    snprintf(port, sizeof(port), "%u", server->port);
    for (size_t i = 0; server->args[i]; i++)
        argv[count++] = server->args[i];
    proc_spawn(&server->proc, argv, server->log_path);
}

static bool answers(struct redis_server *server)
{
    redisContext *context = redisConnectUnix(server->socket_path);
    redisReply *reply = context && !context->err ? redisCommand(context, "PING") : NULL;
    /* An error such as NOAUTH is an answer as well; LOADING is not yet one. */
    bool is_up = reply && !(reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "LOADING", 7) == 0);

    freeReplyObject(reply);
    if (context)
        redisFree(context);
    return is_up;
}

/* @return 0 when it serves, -1 when it ended instead (a port clash, a wrong argument) */
static int wait_until_up(struct redis_server *server)
{
    int64_t end_ms = wait_now_ms() + START_DEADLINE_MS;

    while (!answers(server)) {
        if (!proc_runs(&server->proc))
            return -1;
        if (!wait_more(end_ms))
            fail_msg("redis-server does not answer after %d ms, see %s", START_DEADLINE_MS, server->log_path);
    }
    return 0;
}

static void show_log(const struct redis_server *server)
{
    char line[512];
    FILE *log = fopen(server->log_path, "r");

    while (log && fgets(line, sizeof(line), log))
        print_error("%s", line);
    if (log)
        fclose(log);
}

void redis_start(struct redis_server *server, const char *dir, const char *const extra_args[])
{
    *server = (struct redis_server){0};
    mkdir(dir, 0755);
    snprintf(server->dir, sizeof(server->dir), "%s", dir);
    snprintf(server->socket_path, sizeof(server->socket_path), "%s/redis.sock", dir);
    snprintf(server->log_path, sizeof(server->log_path), "%s/redis.log", dir);
    snprintf(server->unix_url, sizeof(server->unix_url), "unix://%s", server->socket_path);
    for (size_t i = 0; extra_args && extra_args[i]; i++) {
        assert_true(i < REDIS_ARGS_MAX);
        server->args[i] = strdup(extra_args[i]);
    }
    for (int try = 0; try < START_TRIES; try++) {
        server->port = port_free();
        snprintf(server->tcp_url, sizeof(server->tcp_url), "redis://127.0.0.1:%u", server->port);
        launch(server);
        if (wait_until_up(server) == 0)
            return;
    }
    show_log(server);
    fail_msg("redis-server does not start");
}

static void disconnect(struct redis_server *server)
{
    if (server->context)
        redisFree(server->context);
    server->context = NULL;
}

void redis_kill(struct redis_server *server)
{
    disconnect(server);
    proc_kill(&server->proc);
}

void redis_stop(struct redis_server *server)
{
    disconnect(server);
    proc_stop(&server->proc, STOP_DEADLINE_MS);
    for (size_t i = 0; i < REDIS_ARGS_MAX; i++) {
        free(server->args[i]);
        server->args[i] = NULL;
    }
}

void redis_restart(struct redis_server *server)
{
    redis_kill(server);
    launch(server);
    if (wait_until_up(server)) {
        show_log(server);
        fail_msg("redis-server does not start again");
    }
}

static redisReply *command(struct redis_server *server, const char *format, va_list args)
{
    if (server->context && server->context->err)
        disconnect(server);
    if (!server->context) {
        server->context =
            redisConnectUnixWithTimeout(server->socket_path, (struct timeval){.tv_sec = CMD_TIMEOUT_S});
        assert_non_null(server->context);
        redisSetTimeout(server->context, (struct timeval){.tv_sec = CMD_TIMEOUT_S});
    }
    redisReply *reply = server->context->err ? NULL : redisvCommand(server->context, format, args);
    if (!reply)
        fail_msg("Redis, %s: %s", format, server->context->errstr);
    return reply;
}

redisReply *redis_cmd(struct redis_server *server, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    redisReply *reply = command(server, format, args);
    va_end(args);
    return reply;
}

int64_t redis_integer(struct redis_server *server, const char *format, ...)
{
    va_list args;
    int64_t value = INT64_MIN;
    char *end = NULL;

    va_start(args, format);
    redisReply *reply = command(server, format, args);
    va_end(args);
    if (reply->type == REDIS_REPLY_INTEGER)
        value = reply->integer;
    else if (reply->type == REDIS_REPLY_STRING)
        value = strtoll(reply->str, &end, 10);
    if (reply->type == REDIS_REPLY_ERROR || (end && (end == reply->str || *end)))
        fail_msg("Redis, %s: not an integer but %s", format, reply->str);
    freeReplyObject(reply);
    return value;
}
