#include "demo.h"

#include <getopt.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "demo_blog.h"
#include "demo_screen.h"
#include "demo_servers.h"
#include "log.h"
#include "pipeline.h"

#define SECONDS_DEFAULT 20
#define JOIN_MS         15000 /* the mock cluster lets a first group wait 3 s */
#define EVENTS_PER_S    60
#define READS_PER_S     2500
#define PARTITIONS      4
#define ERROR_SIZE      512

struct demo {
    int seconds;
    bool keeps;
    struct demo_servers servers;
    struct blog *blog;
    struct config *config;
    struct pipeline *pipeline;
    pthread_t pipeline_thread;
    bool has_thread;
    struct screen screen;
    rd_kafka_t *cluster_owner, *producer;
    rd_kafka_mock_cluster_t *cluster;
    char error[ERROR_SIZE];
};

static volatile sig_atomic_t is_interrupted;

static void on_signal(int number)
{
    (void)number;
    is_interrupted = 1;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int fail(struct demo *demo, const char *what, const char *why)
{
    snprintf(demo->error, sizeof demo->error, "%s: %s", what, why);
    return -1;
}

/* --- Kafka: librdkafka's mock cluster, in this process --- */

static rd_kafka_t *make_producer(struct demo *demo, const char *brokers)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "log_level", "2", demo->error, sizeof demo->error) ||
        (brokers && rd_kafka_conf_set(conf, "bootstrap.servers", brokers, demo->error, sizeof demo->error))) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, demo->error, sizeof demo->error);
    if (!producer)
        rd_kafka_conf_destroy(conf);
    return producer;
}

static int start_kafka(struct demo *demo)
{
    static const char *const topics[] = {"blog.posts", "blog.authors", "blog.labels", "evictd.dead-letters"};
    demo->cluster_owner = make_producer(demo, NULL);
    demo->cluster = demo->cluster_owner ? rd_kafka_mock_cluster_new(demo->cluster_owner, 1) : NULL;
    if (!demo->cluster)
        return fail(demo, "mock cluster", "librdkafka cannot start it");
    for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++)
        rd_kafka_mock_topic_create(demo->cluster, topics[i], PARTITIONS, 1);
    demo->producer = make_producer(demo, rd_kafka_mock_cluster_bootstraps(demo->cluster));
    return demo->producer ? 0 : -1;
}

static int send_event(struct demo *demo, const char *topic, const char *key, const char *value)
{
    rd_kafka_resp_err_t error =
        rd_kafka_producev(demo->producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                          RD_KAFKA_V_KEY(key, strlen(key)),
                          RD_KAFKA_V_VALUE((void *)(uintptr_t)value, strlen(value)), RD_KAFKA_V_END);
    rd_kafka_poll(demo->producer, 0);
    return error ? fail(demo, "produce", rd_kafka_err2str(error)) : 0;
}

/* --- evictd: the very pipeline of `evictd run` --- */

static void on_explained(void *arg, const char *text)
{
    screen_explain(arg, text);
}

static void *pipeline_main(void *arg)
{
    struct demo *demo = arg;
    if (pipeline_run(demo->pipeline) < 0)
        is_interrupted = 1;
    return NULL;
}

static int start_pipeline(struct demo *demo)
{
    char text[4096];
    const struct pipeline_observer observer = {on_explained, &demo->screen};
    snprintf(
        text, sizeof text,
        "kafka = { brokers = \"%s\"; group = \"evictd-demo\"; };\n"
        "redis = { url = \"%s\"; };\n"
        "log = { level = \"error\"; };\n"
        "rules = (\n"
        "  { name = \"post-changed\"; topics = [ \"blog.posts\" ];\n"
        "    when = ( { field = \"op\"; in = [ \"c\", \"u\", \"d\" ]; } );\n"
        "    keys = [ \"post:${row.id}\" ];\n"
        "    tags = [ \"author:${row.author_id}:posts\", \"label:${row.labels[*]}\" ]; },\n"
        "  { name = \"author-renamed\"; topics = [ \"blog.authors\" ]; tags = [ \"author:${row.id}\" ]; },\n"
        "  { name = \"label-changed\"; topics = [ \"blog.labels\" ]; tags = [ \"label:${row.name}\" ]; } "
        ");\n",
        rd_kafka_mock_cluster_bootstraps(demo->cluster), demo->servers.redis_url);
    if (config_load_text(text, stderr, &demo->config) != 0)
        return fail(demo, "configuration", "see above");
    log_setup((enum log_level)demo->config->log.level, demo->config->log.json);
    if (pipeline_create(demo->config, &observer, &demo->pipeline, demo->error, sizeof demo->error) < 0)
        return -1;
    if (pthread_create(&demo->pipeline_thread, NULL, pipeline_main, demo) != 0)
        return fail(demo, "thread", "cannot be started");
    demo->has_thread = true;
    return 0;
}

/* --- the play --- */

static int start_all(struct demo *demo)
{
    char database[128];
    if (servers_open(&demo->servers, demo->error, sizeof demo->error) < 0 ||
        servers_start_redis(&demo->servers, demo->keeps, demo->error, sizeof demo->error) < 0)
        return -1;
    snprintf(database, sizeof database, "%s/blog.db", demo->servers.dir);
    if (blog_create(database, &demo->blog, demo->error, sizeof demo->error) < 0 || start_kafka(demo) < 0 ||
        start_pipeline(demo) < 0 ||
        servers_start_services(&demo->servers, database, READS_PER_S, demo->error, sizeof demo->error) < 0)
        return -1;
    return 0;
}

static void say_addresses(const struct demo *demo)
{
    if (!demo->keeps)
        return;
    printf("Kafka %s   Redis 127.0.0.1:%d\n"
           "  produce:  echo '17:{\"op\":\"u\",\"row\":{\"id\":17,\"author_id\":4,\"labels\":[\"c\"]}}' | "
           "kcat -P -b %s -t blog.posts -K:\n"
           "  watch:    redis-cli -p %d SUBSCRIBE 'evict:{main}'\n",
           rd_kafka_mock_cluster_bootstraps(demo->cluster), demo->servers.redis_port,
           rd_kafka_mock_cluster_bootstraps(demo->cluster), demo->servers.redis_port);
    fflush(stdout);
}

/* The agent has joined its group once its first event is applied. */
static int wait_joined(struct demo *demo)
{
    double deadline = now_s() + JOIN_MS / 1000.0;
    puts("starting: Kafka (librdkafka's mock cluster), Redis, two services, evictd; a first group waits 3 s "
         "to join");
    fflush(stdout);
    if (send_event(demo, "blog.posts", "0", "{\"op\":\"viewed\",\"row\":{\"id\":0}}") < 0)
        return -1;
    while (pipeline_stats(demo->pipeline)->events == 0 && !is_interrupted) {
        if (now_s() > deadline)
            return fail(demo, "evictd", "does not join its group");
        rd_kafka_poll(demo->producer, 20);
        servers_read(&demo->servers);
    }
    return 0;
}

static int play(struct demo *demo)
{
    double begin = now_s(), end = begin + demo->seconds, next = begin;
    bool is_poison_sent = false;
    unsigned seed = (unsigned)getpid();
    while (!is_interrupted && (demo->keeps || now_s() < end)) {
        struct blog_event event;
        if (!servers_are_well(&demo->servers, demo->error, sizeof demo->error))
            return -1;
        if (blog_change(demo->blog, (unsigned)rand_r(&seed), &event) < 0)
            return fail(demo, "blog", blog_error(demo->blog));
        if (send_event(demo, event.topic, event.key, event.value) < 0)
            return -1;
        if (!is_poison_sent && now_s() > begin + 1) {
            is_poison_sent = true;
            if (send_event(demo, "blog.posts", "poison", "{\"op\":\"u\",") < 0)
                return -1;
        }
        servers_read(&demo->servers);
        screen_paint(&demo->screen, pipeline_stats(demo->pipeline), &demo->servers,
                     demo->keeps ? -1 : end - now_s());
        next += 1.0 / EVENTS_PER_S;
        while (!is_interrupted && now_s() < next)
            rd_kafka_poll(demo->producer, 5);
    }
    return 0;
}

/* Lets what was produced be applied, so that the summary is whole. */
static void settle(struct demo *demo)
{
    double deadline = now_s() + 2;
    rd_kafka_flush(demo->producer, 1000);
    while (pipeline_stats(demo->pipeline)->lag_events != 0 && now_s() < deadline)
        rd_kafka_poll(demo->producer, 20);
}

static void stop_all(struct demo *demo)
{
    if (demo->has_thread) {
        pipeline_stop(demo->pipeline);
        pthread_join(demo->pipeline_thread, NULL);
    }
    if (demo->producer)
        rd_kafka_destroy(demo->producer);
    if (demo->cluster)
        rd_kafka_mock_cluster_destroy(demo->cluster);
    if (demo->cluster_owner)
        rd_kafka_destroy(demo->cluster_owner);
    blog_destroy(&demo->blog);
    servers_close(&demo->servers);
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
    return optind < argc || demo->seconds < 1 || demo->seconds > 3600 ? -1 : 0;
}

int demo_main(int argc, char **argv)
{
    static struct demo demo;
    long stale = 0;
    if (parse(&demo, argc, argv) < 0) {
        fprintf(stderr, "evictd: usage: evictd demo [--keep] [--seconds 1..3600]\n");
        return 2;
    }
    struct sigaction stop = {.sa_handler = on_signal};
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGHUP, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    screen_open(&demo.screen);
    int status = start_all(&demo);
    if (status == 0) {
        say_addresses(&demo);
        status = wait_joined(&demo);
    }
    if (status == 0)
        status = play(&demo);
    if (status == 0) {
        settle(&demo);
        servers_stop_services(&demo.servers);
        stale = screen_summary(&demo.screen, pipeline_stats(demo.pipeline), &demo.servers);
    }
    stop_all(&demo);
    pipeline_destroy(&demo.pipeline);
    config_unload(&demo.config);
    if (status < 0)
        fprintf(stderr, "evictd: demo: %s\n", demo.error);
    return status < 0 || stale > 0 ? 1 : 0;
}
