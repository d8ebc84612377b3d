#include "demo_agent.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "config.h"
#include "log.h"

static const char configuration[] = /* %s: broker, Redis */
    "kafka = { brokers = \"%s\"; group = \"evictd-demo\"; };\n"
    "redis = { url = \"%s\"; };\n"
    "log = { level = \"error\"; };\n"
    "rules = (\n"
    "  { name = \"post-changed\";\n"
    "    topics = [ \"blog.posts\" ];\n"
    "    when = ( { field = \"op\"; in = [ \"c\", \"u\", \"d\" ]; } );\n"
    "    keys = [ \"post:${row.id}\" ];\n"
    "    tags = [ \"author:${row.author_id}:posts\", \"label:${row.labels[*]}\" ]; },\n"
    "  { name = \"author-renamed\"; topics = [ \"blog.authors\" ]; tags = [ \"author:${row.id}\" ]; },\n"
    "  { name = \"label-changed\"; topics = [ \"blog.labels\" ]; tags = [ \"label:${row.name}\" ]; }\n"
    ");\n";

struct agent {
    struct config *config;
    struct pipeline *pipeline;
    pthread_t thread;
    bool has_thread;
    _Atomic bool has_failed; /* set by the thread */
};

static void *agent_main(void *arg)
{
    struct agent *agent = arg;
    if (pipeline_run(agent->pipeline) < 0)
        atomic_store(&agent->has_failed, true);
    return NULL;
}

int agent_start(const char *brokers, const char *redis_url, const struct pipeline_observer *observer,
                struct agent **ret_agent, char *error, size_t error_size)
{
    char text[sizeof configuration + 512];
    struct agent *agent = calloc(1, sizeof *agent);
    snprintf(error, error_size, "out of memory");
    if (!agent)
        return -1;
    snprintf(text, sizeof text, configuration, brokers, redis_url);
    if (config_load_text(text, stderr, &agent->config) != 0) {
        snprintf(error, error_size, "its own configuration is not accepted, see above");
        goto fail;
    }
    log_setup((enum log_level)agent->config->log.level, agent->config->log.json);
    if (pipeline_create(agent->config, observer, &agent->pipeline, error, error_size) < 0)
        goto fail;
    if (pthread_create(&agent->thread, NULL, agent_main, agent) != 0) {
        snprintf(error, error_size, "a thread cannot be started");
        goto fail;
    }
    agent->has_thread = true;
    *ret_agent = agent;
    return 0;
fail:
    agent_destroy(&agent);
    return -1;
}

void agent_stop(struct agent *agent)
{
    if (!agent || !agent->has_thread)
        return;
    pipeline_stop(agent->pipeline);
    pthread_join(agent->thread, NULL);
    agent->has_thread = false;
}

void agent_destroy(struct agent **agent)
{
    if (!agent || !*agent)
        return;
    agent_stop(*agent);
    pipeline_destroy(&(*agent)->pipeline);
    config_unload(&(*agent)->config);
    free(*agent);
    *agent = NULL;
}

const struct pipeline_stats *agent_stats(const struct agent *agent)
{
    return pipeline_stats(agent->pipeline);
}

bool agent_has_failed(const struct agent *agent)
{
    return atomic_load(&agent->has_failed);
}
