#include "connection.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "resp.h"

static int fail(struct connection *connection, const char *what, const char *why)
{
    snprintf(connection->error, sizeof connection->error, "%s: %s", what, why ? why : "connection lost");
    connection_close(connection);
    return -1;
}

int connection_send(struct connection *connection, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        ssize_t sent = send(connection->context->fd, at, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0) {
            snprintf(connection->error, sizeof connection->error, "send: %s",
                     errno == EAGAIN || errno == EWOULDBLOCK ? "timed out" : strerror(errno));
            return -1;
        }
        at += sent;
        size -= (size_t)sent;
    }
    return 0;
}

redisReply *connection_ask(struct connection *connection, size_t count, const char *const words[])
{
    struct resp resp;
    void *reply = NULL;
    resp_init(&resp);
    resp_array(&resp, count);
    for (size_t i = 0; i < count; i++)
        resp_text(&resp, words[i]);
    if (resp.has_failed || connection_send(connection, resp.data, resp.size) < 0 ||
        redisGetReply(connection->context, &reply) != REDIS_OK)
        reply = NULL;
    resp_deinit(&resp);
    return reply;
}

/* Runs a command; on a failure or an error reply closes the connection and tells why in connection->error. */
static redisReply *ask(struct connection *connection, const char *what, int argc, const char **argv)
{
    redisReply *reply = connection_ask(connection, (size_t)argc, argv);
    if (!reply) {
        fail(connection, what, connection->context->errstr);
        return NULL;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        fail(connection, what, reply->str);
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}

static int login(struct connection *connection, const struct redis_url *url)
{
    if (url->password[0]) {
        const char *argv[3] = {"AUTH"};
        int argc = 1;
        if (url->user[0])
            argv[argc++] = url->user;
        argv[argc++] = url->password;
        redisReply *reply = ask(connection, "AUTH", argc, argv);
        if (!reply)
            return -1;
        freeReplyObject(reply);
    }
    if (url->db) {
        char db[16];
        snprintf(db, sizeof db, "%d", url->db);
        redisReply *reply = ask(connection, "SELECT", 2, (const char *[]){"SELECT", db});
        if (!reply)
            return -1;
        freeReplyObject(reply);
    }
    return 0;
}

/* Copies the value of "name:value\r\n" out of INFO's text. */
static bool info_field(const char *info, const char *name, char *out, size_t size)
{
    size_t name_size = strlen(name);
    for (const char *line = info; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, name_size) == 0 && line[name_size] == ':') {
            const char *value = line + name_size + 1;
            snprintf(out, size, "%.*s", (int)strcspn(value, "\r\n"), value);
            return true;
        }
    }
    out[0] = '\0';
    return false;
}

static int learn_server(struct connection *connection)
{
    redisReply *reply = ask(connection, "INFO", 1, (const char *[]){"INFO"});
    if (!reply)
        return -1;
    const char *info = reply->str ? reply->str : "";
    char text[64];
    int result = -1;
    if (!info_field(info, "run_id", connection->run_id, sizeof connection->run_id)) {
        fail(connection, "INFO", "no run_id in the answer");
        goto out;
    }
    if (info_field(info, "loading", text, sizeof text) && strcmp(text, "0") != 0) {
        fail(connection, "INFO", "the server is still loading its data");
        goto out;
    }
    info_field(info, "redis_version", connection->version, sizeof connection->version);
    info_field(info, "maxmemory_policy", connection->policy, sizeof connection->policy);
    connection->has_maxmemory = info_field(info, "maxmemory", text, sizeof text) && strcmp(text, "0") != 0;
    connection->is_replica = info_field(info, "role", text, sizeof text) && strcmp(text, "slave") == 0;
    connection->evicted_keys =
        info_field(info, "evicted_keys", text, sizeof text) ? strtoll(text, NULL, 10) : 0;
    result = 0;
out:
    freeReplyObject(reply);
    return result;
}

static int load_scripts(struct connection *connection, uint32_t scripts)
{
    for (unsigned i = 0; i < SCRIPTS_COUNT; i++) {
        if (!(scripts & (1u << i)))
            continue;
        redisReply *reply =
            ask(connection, "SCRIPT LOAD", 3, (const char *[]){"SCRIPT", "LOAD", script_text[i]});
        if (!reply)
            return -1;
        bool is_sha = reply->type == REDIS_REPLY_STRING && reply->len == 40;
        if (is_sha)
            memcpy(connection->sha[i], reply->str, 41);
        freeReplyObject(reply);
        if (!is_sha)
            return fail(connection, "SCRIPT LOAD", "the answer is no SHA1");
    }
    return 0;
}

int connection_open(struct connection *connection, const struct redis_url *url, uint32_t timeout_ms,
                    uint32_t scripts)
{
    struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = (timeout_ms % 1000) * 1000};
    memset(connection, 0, sizeof *connection);
    connection->context = url->path[0] ? redisConnectUnixWithTimeout(url->path, timeout)
                                       : redisConnectWithTimeout(url->host, url->port, timeout);
    if (!connection->context)
        return fail(connection, "connect", "out of memory");
    if (connection->context->err)
        return fail(connection, "connect", connection->context->errstr);
    if (redisSetTimeout(connection->context, timeout) != REDIS_OK)
        return fail(connection, "connect", connection->context->errstr);
    if (!url->path[0])
        redisEnableKeepAlive(connection->context);
    if (login(connection, url) < 0 || learn_server(connection) < 0 || load_scripts(connection, scripts) < 0)
        return -1;
    return 0;
}

void connection_close(struct connection *connection)
{
    if (connection->context)
        redisFree(connection->context);
    connection->context = NULL;
}

enum reply_error reply_error(const redisReply *reply)
{
    static const struct {
        const char *prefix;
        enum reply_error error;
    } table[] = {
        {"NOSCRIPT", REPLY_NOSCRIPT},    {"LOADING", REPLY_TRANSIENT},     {"BUSY", REPLY_TRANSIENT},
        {"TRYAGAIN", REPLY_TRANSIENT},   {"OOM", REPLY_TRANSIENT},         {"MISCONF", REPLY_TRANSIENT},
        {"NOREPLICAS", REPLY_TRANSIENT}, {"CLUSTERDOWN", REPLY_TRANSIENT}, {"READONLY", REPLY_MOVED},
        {"MASTERDOWN", REPLY_MOVED},     {"UNBLOCKED", REPLY_MOVED},       {"UNKILLABLE", REPLY_TRANSIENT},
        {"NOAUTH", REPLY_DENIED},        {"WRONGPASS", REPLY_DENIED},      {"NOPERM", REPLY_DENIED},
        {"WRONGTYPE", REPLY_WRONGTYPE},
    };
    if (reply->type != REDIS_REPLY_ERROR)
        return REPLY_OK;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strncmp(reply->str, table[i].prefix, strlen(table[i].prefix)) == 0)
            return table[i].error;
    }
    /* An error raised inside a script comes as "ERR ... -OOM ..." or "OOM ... script: ..." depending on the
     * version. */
    if (strstr(reply->str, "-OOM ") || strstr(reply->str, "OOM command not allowed"))
        return REPLY_TRANSIENT;
    if (strstr(reply->str, "-READONLY "))
        return REPLY_MOVED;
    if (strstr(reply->str, "WRONGTYPE"))
        return REPLY_WRONGTYPE;
    return REPLY_FAILED;
}
