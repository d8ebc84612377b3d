/* script_calls: builds the calls with tests/support and libcache/wire; owns the server and the connection. */
#include "script_calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "resp.h"

#define DAY_MS "86400000"

struct redis_server server;
struct connection connection;
struct names names;
static char *dir;

/* --- calling a script --- */

struct call {
    struct resp body;
    size_t count;
};

static void put_bytes(struct call *call, const void *data, size_t size)
{
    resp_bulk(&call->body, data, size);
    call->count++;
}

static void put(struct call *call, const char *text)
{
    put_bytes(call, text, strlen(text));
}

static void put_number(struct call *call, int64_t number)
{
    resp_number(&call->body, number);
    call->count++;
}

static void begin(struct call *call, enum script script, int64_t keys)
{
    resp_init(&call->body);
    call->count = 0;
    put(call, "EVALSHA");
    put(call, connection.sha[script]);
    put_number(call, keys);
}

redisReply *send_out(const char *data, size_t size)
{
    void *reply = NULL;
    assert_int_equal(redisAppendFormattedCommand(connection.context, data, size), REDIS_OK);
    if (redisGetReply(connection.context, &reply) != REDIS_OK)
        fail_msg("no reply: %s", connection.context->errstr);
    return reply;
}

/* Sends the call and frees it. An error reply fails the test. */
static redisReply *finish(struct call *call)
{
    struct resp whole;
    resp_init(&whole);
    resp_array(&whole, call->count);
    resp_append(&whole, call->body.data, call->body.size);
    assert_false(call->body.has_failed || whole.has_failed);
    redisReply *reply = send_out(whole.data, whole.size);
    resp_deinit(&whole);
    resp_deinit(&call->body);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("the script failed: %s", reply->str);
    return reply;
}

static void copy(char *out, size_t size, const redisReply *reply)
{
    assert_int_equal(reply->type, REDIS_REPLY_STRING);
    snprintf(out, size, "%s", reply->str);
}

/* --- lease.lua --- */

struct answer lease_as(const char *mode, const char *key, const char *token)
{
    struct answer answer = {.seq = -1};
    struct call call;
    char lease[128];
    begin(&call, SCRIPT_LEASE, 3);
    put(&call, names.head);
    put(&call, key);
    put_bytes(&call, lease, names_lease(&names, key, strlen(key), lease));
    put(&call, EPOCH);
    put(&call, token);
    put(&call, DAY_MS);
    put(&call, mode);
    redisReply *reply = finish(&call);
    copy(answer.status, sizeof answer.status, reply->element[0]);
    if (strcmp(answer.status, "granted") == 0) {
        answer.seq = reply->element[1]->integer;
        copy(answer.epoch, sizeof answer.epoch, reply->element[2]);
    } else if (strcmp(answer.status, "value") == 0) {
        copy(answer.value, sizeof answer.value, reply->element[1]);
    } else {
        answer.left_ms = reply->element[1]->integer;
    }
    freeReplyObject(reply);
    return answer;
}

int64_t granted(const char *key, const char *token)
{
    struct answer answer = lease_as("ask", key, token);
    assert_string_equal(answer.status, "granted");
    return answer.seq;
}

/* --- store.lua --- */

struct answer store(struct store s)
{
    struct answer answer = {.seq = -1};
    struct call call;
    char lease[128], tag[80];
    int tags = 0;
    while (s.tags[tags])
        tags++;
    begin(&call, SCRIPT_STORE, 7 + tags);
    put(&call, names.head);
    put(&call, names.fence[0]);
    put(&call, names.fence[1]);
    put(&call, names.tags);
    put(&call, names.log);
    put(&call, s.key);
    put_bytes(&call, lease, names_lease(&names, s.key, strlen(s.key), lease));
    for (int i = 0; i < tags; i++) {
        snprintf(tag, sizeof tag, "tag:%s", s.tags[i]);
        put(&call, tag);
    }
    put(&call, EPOCH);
    put(&call, s.token ? s.token : "");
    put_number(&call, s.seq);
    put(&call, s.epoch ? s.epoch : EPOCH);
    put(&call, s.value ? s.value : "value");
    put(&call, s.ttl_ms ? s.ttl_ms : "60000");
    put(&call, s.rest ? CHANNEL : "");
    put(&call, s.rest ? s.rest : "");
    put(&call, "1000");
    put(&call, names.ns_json);
    redisReply *reply = finish(&call);
    copy(answer.status, sizeof answer.status, reply->element[0]);
    bool is_stored = strcmp(answer.status, "stored") == 0;
    if (!is_stored)
        copy(answer.why, sizeof answer.why, reply->element[1]);
    answer.seq = reply->element[is_stored ? 1 : 2]->integer;
    copy(answer.epoch, sizeof answer.epoch, reply->element[is_stored ? 2 : 3]);
    freeReplyObject(reply);
    return answer;
}

void is_stored(struct answer answer)
{
    if (strcmp(answer.status, "stored") != 0)
        fail_msg("refused: %s", answer.why);
}

void is_refused(struct answer answer, const char *why)
{
    assert_string_equal(answer.status, "refused");
    assert_string_equal(answer.why, why);
}

/* --- beat.lua --- */

void beat_by(int64_t ret[2], const char *limit, const char *by)
{
    struct call call;
    begin(&call, SCRIPT_BEAT, 2);
    put(&call, names.head);
    put(&call, names.tags);
    put(&call, EPOCH);
    put(&call, limit);
    put(&call, by);
    redisReply *reply = finish(&call);
    assert_int_equal(reply->elements, 3);
    assert_string_equal(reply->element[1]->str, EPOCH);
    ret[0] = reply->element[0]->integer;
    ret[1] = reply->element[2]->integer;
    freeReplyObject(reply);
}

void beat(int64_t ret[2], const char *limit)
{
    beat_by(ret, limit, "1");
}

/* --- invalidate.lua, with limits of the test's own --- */

static size_t count_of(const char *const list[])
{
    size_t count = 0;
    while (list[count])
        count++;
    return count;
}

static redisReply *invalidate_reply(const struct step *step, size_t first_tag)
{
    struct call call;
    char text[128];
    size_t tags = count_of(step->tags), keys = count_of(step->keys), parts = count_of(step->parts),
           partitions = 0;
    while (partitions < 4 && step->partitions[partitions].field)
        partitions++;
    begin(&call, SCRIPT_INVALIDATE, 5);
    put(&call, names.head);
    put(&call, names.fence[0]);
    put(&call, names.fence[1]);
    put(&call, names.log);
    put(&call, names.applied);
    put(&call, EPOCH);
    put(&call, step->expected_epoch ? step->expected_epoch : "");
    put(&call, CHANNEL);
    put_number(&call, step->budget ? step->budget : INVALIDATE_MEMBERS_MAX);
    put_number(&call, step->log_length ? step->log_length : 1000);
    put_number(&call, step->fences ? step->fences : FENCES_MAX);
    put_number(&call, step->age_ms ? step->age_ms : FENCES_AGE_MS);
    put(&call, step->members ? step->members : "");
    put(&call, step->all ? step->all : "");
    put_number(&call, (int64_t)(tags - first_tag));
    put_number(&call, (int64_t)keys);
    put_number(&call, (int64_t)parts);
    put_number(&call, (int64_t)partitions);
    put(&call, names.ns_json);
    for (size_t i = first_tag; i < tags; i++) {
        snprintf(text, sizeof text, "tag:%s", step->tags[i]);
        put(&call, text);
    }
    for (size_t i = 0; i < keys; i++) {
        put(&call, step->keys[i]);
        put_bytes(&call, text, names_lease(&names, step->keys[i], strlen(step->keys[i]), text));
    }
    for (size_t i = 0; i < parts; i++)
        put(&call, step->parts[i]);
    for (size_t i = 0; i < partitions; i++) {
        put(&call, step->partitions[i].field);
        put_number(&call, step->partitions[i].from);
        put_number(&call, step->partitions[i].next);
    }
    return finish(&call);
}

struct invalidate_result invalidate_once(const struct step *step, size_t first_tag)
{
    struct invalidate_result result;
    redisReply *reply = invalidate_reply(step, first_tag);
    invalidate_decode(reply, first_tag, &result);
    freeReplyObject(reply);
    assert_true(result.status != INVALIDATE_BAD);
    return result;
}

struct invalidate_result invalidate(struct step step)
{
    struct invalidate_result result = invalidate_once(&step, 0);
    assert_int_equal(result.status, INVALIDATE_DONE);
    return result;
}

/* --- what is in Redis --- */

int64_t ask(const char *command)
{
    return redis_integer(&server, command);
}

void is_string(const char *command, const char *expected)
{
    redisReply *reply = redis_cmd(&server, command);
    if (!expected ? reply->type != REDIS_REPLY_NIL
                  : reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS)
        fail_msg("%s: another type: %s", command, reply->str ? reply->str : "(none)");
    if (expected)
        assert_string_equal(reply->str, expected);
    freeReplyObject(reply);
}

void run(const char *command)
{
    redisReply *reply = redis_cmd(&server, command);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", command, reply->str);
    freeReplyObject(reply);
}

/* The i-th entry of the log: its id and message. */
void log_entry(size_t i, char *id, char *message, size_t size)
{
    redisReply *reply = redis_cmd(&server, "XRANGE evict:{main}:log - +");
    assert_int_equal(reply->type, REDIS_REPLY_ARRAY);
    assert_true(i < reply->elements);
    snprintf(id, 32, "%s", reply->element[i]->element[0]->str);
    assert_int_equal(reply->element[i]->element[1]->elements, 2);
    assert_string_equal(reply->element[i]->element[1]->element[0]->str, "m");
    snprintf(message, size, "%s", reply->element[i]->element[1]->element[1]->str);
    freeReplyObject(reply);
}

int scripts_start(void **state)
{
    struct redis_url url;
    char error[256];
    (void)state;
    dir = tmp_make();
    redis_start(&server, dir, NULL);
    assert_int_equal(redis_url_parse(server.unix_url, &url, error, sizeof error), 0);
    if (connection_open(&connection, &url, 10000, (1u << SCRIPTS_COUNT) - 1) < 0)
        fail_msg("%s", connection.error);
    assert_int_equal(strlen(connection.run_id), 40);
    assert_false(connection.is_replica || connection.has_maxmemory);
    return names_init(&names, "main", "tag:", "lease:");
}

int scripts_stop(void **state)
{
    (void)state;
    connection_close(&connection);
    redis_stop(&server);
    names_deinit(&names);
    tmp_remove(dir);
    return 0;
}

int scripts_empty(void **state)
{
    (void)state;
    run("CONFIG SET maxmemory 0"); /* if the test before failed */
    run("FLUSHALL");
    return 0;
}
