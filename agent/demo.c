#include "demo.h"

#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "demo_agent.h"
#include "demo_blog.h"
#include "demo_broker.h"
#include "demo_screen.h"
#include "demo_servers.h"

#define SECONDS_DEFAULT 20
#define SECONDS_MAX     3600
#define EVENTS_PER_S    60
#define READS_PER_S     2500  /* of each service */
#define POISON_MS       1000  /* after the play began */
#define JOIN_MS         20000 /* the mock cluster lets a first group wait 3 s */
#define SETTLE_MS       5000  /* for what is on its way when the play ends */
#define STEP_MS         5

static const char *const topics[] = {"blog.posts", "blog.authors", "blog.labels", "evictd.dead-letters"};

struct demo {
    int seconds;
    bool keeps;
    struct demo_servers servers;
    struct blog *blog;
    struct broker *broker;
    struct agent *agent;
    uint64_t sent; /* events */
    struct screen screen;
    char error[5120]; /* holds two paths */
};

static _Atomic bool is_interrupted; /* by a signal */

static void on_signal(int number)
{
    (void)number;
    atomic_store(&is_interrupted, true);
}

static void catch_signals(void)
{
    const struct sigaction stop = {.sa_handler = on_signal};
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGHUP, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int fail(struct demo *demo, const char *what)
{
    snprintf(demo->error, sizeof demo->error, "%s", what);
    return -1;
}

static int send_event(struct demo *demo, const char *topic, const char *key, const char *value)
{
    demo->sent++;
    return broker_send(demo->broker, topic, key, value, demo->error, sizeof demo->error);
}

/* A short pause. @return 0, or -1: something that the demo started has ended */
static int step(struct demo *demo)
{
    nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000L}, NULL);
    if (agent_has_failed(demo->agent))
        return fail(demo, "evictd ended, see above");
    return servers_check(&demo->servers, demo->error, sizeof demo->error);
}

static void on_explained(void *arg, const char *text)
{
    screen_explain(arg, text);
}

/* What needs a process of one thread comes first. */
static int start_all(struct demo *demo)
{
    puts("starting Redis, two services, a Kafka broker (librdkafka's mock) and evictd; it joins its group in "
         "some 3 s");
    fflush(stdout);
    if (servers_open(&demo->servers, demo->error, sizeof demo->error) < 0 ||
        servers_start_redis(&demo->servers, demo->keeps, demo->error, sizeof demo->error) < 0 ||
        blog_create(demo->servers.database, &demo->blog, demo->error, sizeof demo->error) < 0 ||
        servers_start_services(&demo->servers, READS_PER_S, demo->error, sizeof demo->error) < 0 ||
        broker_start(topics, sizeof topics / sizeof topics[0], &demo->broker, demo->error,
                     sizeof demo->error) < 0)
        return -1;
    const struct pipeline_observer observer = {on_explained, &demo->screen};
    if (agent_start(broker_address(demo->broker), demo->servers.redis_url, &observer, &demo->agent,
                    demo->error, sizeof demo->error) < 0)
        return -1;
    demo->screen.stats = agent_stats(demo->agent);
    return 0;
}

/* Where --keep can be looked into, as commands to copy. */
static void note_addresses(struct demo *demo)
{
    const char *broker = broker_address(demo->broker);
    int port = demo->servers.redis_port;
    if (!demo->keeps)
        return;
    snprintf(demo->screen.notice, sizeof demo->screen.notice,
             "Kafka is at %s, Redis at 127.0.0.1:%d. In other terminals:\n"
             "  redis-cli -p %d SUBSCRIBE 'evict:{main}'\n"
             "  redis-cli -p %d ZRANGE tag:author:4:posts 0 -1\n"
             "  echo '{\"op\":\"u\",\"row\":{\"id\":17,\"author_id\":4,\"labels\":[\"c\"]}}' | kcat -P -b %s "
             "-t blog.posts\n"
             "  kcat -C -b %s -t blog.posts -o end\n"
             "  %s --redis redis://127.0.0.1:%d --database %s\n"
             "\n",
             broker, port, port, port, broker, broker, demo->servers.service_path, port,
             demo->servers.database);
    if (!demo->screen.is_terminal)
        fputs(demo->screen.notice, stdout);
    fflush(stdout);
}

static bool has_joined(const struct demo *demo)
{
    return atomic_load(&demo->screen.stats->events) > 0;
}

/* Changes before evictd has joined would be seen late: a first event, which matches nothing, tells when it
 * has. */
static int wait_joined(struct demo *demo)
{
    int64_t deadline_ms = monotonic_ms() + JOIN_MS;
    if (send_event(demo, "blog.posts", "0", "{\"op\":\"viewed\",\"row\":{\"id\":0}}") < 0)
        return -1;
    while (!has_joined(demo) && !atomic_load(&is_interrupted)) {
        if (monotonic_ms() > deadline_ms)
            return fail(demo, "evictd does not join its consumer group");
        if (step(demo) < 0)
            return -1;
    }
    return 0;
}

static int change_something(struct demo *demo, unsigned random)
{
    struct blog_event event;
    if (blog_change(demo->blog, random, &event, demo->error, sizeof demo->error) < 0)
        return -1;
    return send_event(demo, event.topic, event.key, event.value);
}

static int play(struct demo *demo)
{
    const int64_t begin_ms = monotonic_ms(), end_ms = begin_ms + demo->seconds * 1000LL;
    unsigned seed = (unsigned)getpid();
    bool is_poisoned = false;
    int64_t now_ms = begin_ms;
    for (int64_t sent = 0; !atomic_load(&is_interrupted) && (demo->keeps || now_ms < end_ms);
         now_ms = monotonic_ms()) {
        if (now_ms - begin_ms >= sent * 1000 / EVENTS_PER_S) {
            sent++;
            if (change_something(demo, (unsigned)rand_r(&seed)) < 0)
                return -1;
        }
        if (!is_poisoned && now_ms - begin_ms >= POISON_MS) {
            is_poisoned = true;
            if (send_event(demo, "blog.posts", "poison", "{\"op\":\"u\",") < 0)
                return -1;
        }
        screen_paint(&demo->screen, demo->keeps ? -1 : (int)((end_ms - now_ms + 999) / 1000));
        if (step(demo) < 0)
            return -1;
    }
    return 0;
}

/* Lets what is on its way arrive, so that the summary is whole. An agent that stops finishes what it has
 * read. */
static int settle(struct demo *demo)
{
    int64_t deadline_ms = monotonic_ms() + SETTLE_MS;
    if (broker_flush(demo->broker, SETTLE_MS) < 0)
        return fail(demo, "the broker does not take the last events");
    while (has_joined(demo) && atomic_load(&demo->screen.stats->events) < demo->sent) {
        if (monotonic_ms() > deadline_ms)
            return fail(demo, "evictd does not read the last events");
        if (step(demo) < 0)
            return -1;
    }
    servers_stop_services(&demo->servers);
    agent_stop(demo->agent);
    return 0;
}

static void stop_all(struct demo *demo)
{
    servers_stop_services(&demo->servers);
    agent_destroy(&demo->agent);
    broker_stop(&demo->broker);
    blog_destroy(&demo->blog);
    servers_close(&demo->servers);
}

static int run(struct demo *demo)
{
    if (start_all(demo) < 0)
        return -1;
    note_addresses(demo);
    if (wait_joined(demo) < 0 || play(demo) < 0 || settle(demo) < 0)
        return -1;
    if (screen_summary(&demo->screen) > 0)
        return fail(demo, "a service got a stale answer: please report this as a bug");
    return 0;
}

static int parse(struct demo *demo, int argc, char **argv)
{
    static const struct option options[] = {
        {"keep", no_argument, NULL, 'k'}, {"seconds", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
    int option;
    demo->seconds = SECONDS_DEFAULT;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'k')
            demo->keeps = true;
        else if (option == 's')
            demo->seconds = (int)strtol(optarg, NULL, 10);
        else
            return -1;
    }
    return optind < argc || demo->seconds < 1 || demo->seconds > SECONDS_MAX ? -1 : 0;
}

int demo_main(int argc, char **argv)
{
    static struct demo demo;
    if (parse(&demo, argc, argv) < 0) {
        fprintf(stderr, "usage: evictd demo [--keep] [--seconds 1..%d]\n", SECONDS_MAX);
        return 2;
    }
    catch_signals();
    screen_open(&demo.screen, &demo.servers);
    int status = run(&demo);
    stop_all(&demo);
    screen_close(&demo.screen);
    if (status < 0)
        fprintf(stderr, "evictd demo: %s\n", demo.error);
    return status < 0 ? 1 : 0;
}
