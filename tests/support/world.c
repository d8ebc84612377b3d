#include "world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define STOP_MS   5000
#define ANSWER_MS 30000

static void write_config(struct world *world, const char *rules, const char *more)
{
    snprintf(world->conf_path, sizeof world->conf_path, "%s/evictd.conf", world->dir);
    FILE *file = fopen(world->conf_path, "w");
    if (!file)
        fail_msg("%s: cannot be written", world->conf_path);
    fprintf(file,
            "kafka = { brokers = \"%s\"; group = \"evictd\"; properties = [ \"session.timeout.ms=2000\", "
            "\"heartbeat.interval.ms=400\", \"topic.metadata.refresh.interval.ms=1000\" ]; };\n"
            "redis = { url = \"%s\"; };\n%s\nrules = (\n%s\n);\n",
            world->kafka.bootstrap, world->redis.unix_url, more, rules);
    fclose(file);
}

void world_open(struct world *world, const char *const redis_args[], const char *rules, const char *more)
{
    char dir[TMP_PATH_SIZE];
    memset(world, 0, sizeof *world);
    world->dir = tmp_make();
    snprintf(dir, sizeof dir, "%s/redis", world->dir);
    redis_start(&world->redis, dir, redis_args);
    snprintf(dir, sizeof dir, "%s/kafka", world->dir);
    kafka_start(&world->kafka, dir);
    write_config(world, rules, more);
}

void world_close(struct world *world)
{
    for (int i = 0; i < WORLD_SERVICES; i++)
        proc_kill(&world->services[i]);
    for (int i = 0; i < WORLD_AGENTS; i++) {
        if (world->agents[i].pid && proc_runs(&world->agents[i]))
            world_stop_agent(world, i);
        proc_kill(&world->agents[i]);
    }
    kafka_stop(&world->kafka);
    redis_stop(&world->redis);
    tmp_remove(world->dir);
    world->dir = NULL;
}

static void log_path(const struct world *world, int agent, char *out, size_t size)
{
    snprintf(out, size, "%s/agent-%d.log", world->dir, agent);
}

void world_start_agent(struct world *world, int i)
{
    char log[TMP_PATH_SIZE + 32];
    const char *const argv[] = {EVICTD_PATH, "run", "-c", world->conf_path, NULL};
    log_path(world, i, log, sizeof log);
    proc_spawn(&world->agents[i], argv, log);
}

void world_stop_agent(struct world *world, int i)
{
    int code = proc_stop(&world->agents[i], STOP_MS);
    assert_int_equal(code, 0);
}

void world_start_service(struct world *world, int i)
{
    char log[TMP_PATH_SIZE + 32];
    const char *const argv[] = {SERVICE_PATH, world->redis.unix_url, NULL};
    snprintf(log, sizeof log, "%s/service-%d.log", world->dir, i);
    proc_spawn_piped(&world->services[i], argv, log);
    assert_string_equal(world_ask(world, i, "wait"), "ok");
}

__attribute__((format(printf, 3, 0))) static const char *ask(struct world *world, int service,
                                                             const char *format, va_list args)
{
    static char question[4096], answer[PROC_BUFFER_SIZE];
    vsnprintf(question, sizeof question, format, args);
    if (proc_ask(&world->services[service], question, answer, sizeof answer, ANSWER_MS) < 0)
        fail_msg("service %d does not answer \"%s\"", service, question);
    return answer;
}

const char *world_ask(struct world *world, int service, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *answer = ask(world, service, format, args);
    va_end(args);
    return answer;
}

long world_ask_number(struct world *world, int service, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *answer = ask(world, service, format, args);
    va_end(args);
    const char *space = strrchr(answer, ' ');
    return atol(space ? space + 1 : answer);
}

int64_t world_applied(struct world *world)
{
    int64_t sum = 0;
    redisReply *reply = redis_cmd(&world->redis, "HVALS evict:{main}:applied");
    for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++)
        sum += atoll(reply->element[i]->str);
    freeReplyObject(reply);
    return sum;
}

bool world_log_has(struct world *world, int agent, const char *text)
{
    char path[TMP_PATH_SIZE + 32], line[4096];
    bool found = false;
    log_path(world, agent, path, sizeof path);
    FILE *file = fopen(path, "r");
    while (file && !found && fgets(line, sizeof line, file))
        found = strstr(line, text) != NULL;
    if (file)
        fclose(file);
    return found;
}
