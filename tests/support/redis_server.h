/* redis_server: one redis-server of the test's own, on a unix socket and on a port of 127.0.0.1. */
#pragma once

#include <hiredis/hiredis.h>
#include <stdint.h>

#include "proc.h"
#include "tmp.h"

#define REDIS_ARGS_MAX 16

struct redis_server {
    struct proc proc; /* proc_signal(&server.proc, SIGSTOP): a server that hangs but keeps its sockets */
    uint16_t port;
    char dir[TMP_PATH_SIZE];
    char socket_path[TMP_PATH_SIZE + 16];
    char log_path[TMP_PATH_SIZE + 16];
    char unix_url[TMP_PATH_SIZE + 32]; /* unix://…/redis.sock */
    char tcp_url[32];                  /* redis://127.0.0.1:PORT */
    char *args[REDIS_ARGS_MAX + 1];
    redisContext *context; /* of redis_cmd() */
};

/** Starts a server and waits until it answers PING. It keeps everything in `dir`, which is made if it is not
 * there.
 * @param extra_args more arguments, NULL-terminated, such as {"--appendonly", "yes", NULL}; NULL: none.
 * Without them the server saves nothing. Kept for redis_restart(). */
void redis_start(struct redis_server *server, const char *dir, const char *const extra_args[]);

/** SIGKILL: a crash. redis_restart() may follow. */
void redis_kill(struct redis_server *server);

/** The end of the server. Fine twice, and after redis_kill(). */
void redis_stop(struct redis_server *server);

/** Starts it again, after redis_kill() or from running (killed then): same folder, port and arguments. */
void redis_restart(struct redis_server *server);

/** One command, as redisCommand() takes it (%s, %b, %lld …). Connects anew if the connection broke before.
 * @return the reply, which may be an error reply; the caller frees it with freeReplyObject() */
redisReply *redis_cmd(struct redis_server *server, const char *format, ...);

/** The same where the answer is an integer, or a string that is one: @return it; INT64_MIN: nil. */
int64_t redis_integer(struct redis_server *server, const char *format, ...);
