/* world: what the agent's integration tests play in: a Kafka broker, a Redis, agents, services. One test, one
 * world. */
#pragma once

#include "support.h"

#define WORLD_AGENTS   2
#define WORLD_SERVICES 4

struct world {
    char *dir;
    struct kafka_broker kafka;
    struct redis_server redis;
    struct proc agents[WORLD_AGENTS];
    struct proc services[WORLD_SERVICES];
    char conf_path[TMP_PATH_SIZE + 32];
};

/** Starts a broker and a Redis (redis_args as for redis_start) and writes the configuration: `rules` is the
 * text of the rules, `more` further settings or "". */
void world_open(struct world *world, const char *const redis_args[], const char *rules, const char *more);
/** Ends all of it; agents that still run must end well within 5 s. */
void world_close(struct world *world);

/** Starts agent i. */
void world_start_agent(struct world *world, int i);
/** SIGTERM; fails the test unless it ends with 0 within 5 s. */
void world_stop_agent(struct world *world, int i);
/** Starts service i (tests/support/service.c) and waits until its L1 is current. */
void world_start_service(struct world *world, int i);

/** Asks a service. @return its answer, valid until the next question of any service */
const char *world_ask(struct world *world, int service, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/** The same where the answer ends with a number. */
long world_ask_number(struct world *world, int service, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** Sum of what Redis has applied over the partitions of all topics of the group "evictd". */
int64_t world_applied(struct world *world);
/** Does a line with this text stand in agent i's log? */
bool world_log_has(struct world *world, int agent, const char *text);
