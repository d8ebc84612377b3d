/* script_calls: the Lua scripts as functions, against a real Redis of the test program's own. Arguments are
 * texts; an error reply fails the test. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "connection.h"
#include "invalidate.h"
#include "names.h"
#include "support.h"

#define EPOCH   "epoch1" /* what every call offers */
#define CHANNEL "evict:{main}"

extern struct redis_server server;
extern struct connection connection;
extern struct names names; /* of namespace main */

int scripts_start(void **state);
int scripts_stop(void **state);
int scripts_empty(void **state); /* before each test */

#define SCRIPTS_TEST(name) cmocka_unit_test_setup(name, scripts_empty)

struct answer {
    char status[16], why[16], epoch[EPOCH_SIZE], value[64];
    int64_t seq, left_ms;
};

/** lease.lua, for a day. @param mode "ask" or "take" */
struct answer lease_as(const char *mode, const char *key, const char *token);
/** Asks for a lease that must be granted. @return its seq */
int64_t granted(const char *key, const char *token);

struct store {
    const char *key, *token, *value;
    int64_t seq;
    const char *epoch;  /* NULL: EPOCH */
    const char *ttl_ms; /* NULL: a minute */
    const char *rest;   /* of the broadcast; NULL: a fill */
    const char *tags[8];
};

struct answer store(struct store s);
void is_stored(struct answer answer);
void is_refused(struct answer answer, const char *why);

/** beat.lua, raising the beat by one. @param ret {beat, seq} @param limit tag sets to look at */
void beat(int64_t ret[2], const char *limit);
void beat_by(int64_t ret[2], const char *limit, const char *by);

/* One call of invalidate.lua, with limits of the test's own. */
struct step {
    const char *expected_epoch, *members, *all;
    int64_t budget, log_length, fences, age_ms; /* 0: the daemon's */
    const char *tags[8], *keys[8], *parts[4];
    struct {
        const char *field;
        int64_t from, next;
    } partitions[4];
};

struct invalidate_result invalidate_once(const struct step *step, size_t first_tag);
/** The same; one call must do. */
struct invalidate_result invalidate(struct step step);

/** Any command in wire format. */
redisReply *send_out(const char *data, size_t size);
/** A command whose answer is a number. */
int64_t ask(const char *command);
/** @param expected NULL: nil */
void is_string(const char *command, const char *expected);
void run(const char *command);
/** The i-th entry of the log. @param id room for 32 bytes */
void log_entry(size_t i, char *id, char *message, size_t size);
