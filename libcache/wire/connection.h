/* connection: one blocking connection to one Redis server, with what must be known of that server: its run_id
 * (a failover or a restart shows in it) and the scripts' SHAs. One connection, one owner thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <hiredis/hiredis.h>

#include "redis_url.h"
#include "scripts.h"

#define RUN_ID_SIZE 41

struct connection {
    redisContext *context; /* NULL: not connected */
    char run_id[RUN_ID_SIZE];
    char sha[SCRIPTS_COUNT][41];
    char policy[32]; /* maxmemory-policy; "" where INFO does not say */
    bool has_maxmemory;
    bool is_replica;
    int64_t evicted_keys;
    char version[16];
    char error[256]; /* of the last failure */
};

/** Connects, authenticates, selects the database, learns the server (INFO), loads the scripts asked for.
 * @param scripts bit mask of 1u << enum script
 * @return 0 or -1 with connection->error; a server that is still loading is a failure, a replica is not
 * (is_replica) */
int connection_open(struct connection *connection, const struct redis_url *url, uint32_t timeout_ms,
                    uint32_t scripts) __attribute__((warn_unused_result));
void connection_close(struct connection *connection);

/** Sends bytes in wire format without ever raising SIGPIPE (hiredis would), for a library's host may not
 * ignore that.
 * @return 0, or -1 with connection->error: the connection is of no use any more */
int connection_send(struct connection *connection, const void *data, size_t size)
    __attribute__((warn_unused_result));
/** Sends one command of texts and waits for its answer. @return the reply, which may be an error reply, or
 * NULL */
redisReply *connection_ask(struct connection *connection, size_t count, const char *const words[]);

/** What an error reply of Redis means for the caller. */
enum reply_error {
    REPLY_OK,        /* not an error */
    REPLY_NOSCRIPT,  /* scripts were flushed: load again, repeat */
    REPLY_TRANSIENT, /* LOADING, BUSY, TRYAGAIN, OOM, MISCONF, CLUSTERDOWN: repeat later on this connection */
    REPLY_MOVED,     /* READONLY, MASTERDOWN, UNBLOCKED: this server is not the one: connect anew */
    REPLY_DENIED,    /* NOAUTH, WRONGPASS, NOPERM: a person must act; keep trying slowly */
    REPLY_WRONGTYPE,
    REPLY_FAILED /* anything else: a bug or a server that lacks a command */
};
enum reply_error reply_error(const redisReply *reply);
