#include "bench.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

double bench_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void bench_die(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

rd_kafka_t *bench_producer(const char *brokers)
{
    char error[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, error, sizeof error) ||
        rd_kafka_conf_set(conf, "linger.ms", "1", error, sizeof error) ||
        rd_kafka_conf_set(conf, "queue.buffering.max.messages", "1000000", error, sizeof error))
        bench_die("producer", error);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    if (!rk)
        bench_die("producer", error);
    return rk;
}

void bench_create_topic(rd_kafka_t *rk, const char *topic, int partitions)
{
    char error[512];
    rd_kafka_NewTopic_t *wanted = rd_kafka_NewTopic_new(topic, partitions, 1, error, sizeof error);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    if (!wanted)
        bench_die("topic", error);
    rd_kafka_CreateTopics(rk, &wanted, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 30000);
    if (!event || rd_kafka_event_error(event))
        bench_die("topic", event ? rd_kafka_event_error_string(event) : "no answer");
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(wanted);
    rd_kafka_queue_destroy(queue);
}

int bench_event(char *out, size_t size, unsigned id)
{
    return snprintf(
        out, size,
        "{\"op\":\"u\",\"ts_ms\":1795392000000,\"source\":{\"db\":\"blog\",\"table\":\"posts\",\"lsn\":%u},"
        "\"row\":{\"id\":%u,\"author_id\":%u,\"title\":\"On the keeping of caches, part %u\",\"state\":"
        "\"published\",\"labels\":[\"c\",\"redis\"],\"summary\":\"Some text that a rule does not read, but "
        "that a decoder must pass over.\"}}",
        id, id, id % 1000, id);
}

redisContext *bench_redis(const char *socket)
{
    redisContext *redis = redisConnectUnix(socket);
    if (!redis || redis->err)
        bench_die("redis", redis ? redis->errstr : "out of memory");
    return redis;
}

static void take_replies(redisContext *redis, unsigned count)
{
    while (count--) {
        void *reply;
        if (redisGetReply(redis, &reply) != REDIS_OK)
            bench_die("redis", redis->errstr);
        freeReplyObject(reply);
    }
}

void bench_fill_redis(redisContext *redis, unsigned count)
{
    long long expiry = (long long)time(NULL) * 1000 + 3600000;
    unsigned pending = 0;
    take_replies(redis, redisAppendCommand(redis, "FLUSHALL") == REDIS_OK);
    for (unsigned i = 0; i < count; i++) {
        redisAppendCommand(redis, "ZADD tag:t:%u %lld k:%u:0 %lld k:%u:1 %lld k:%u:2", i, expiry, i, expiry,
                           i, expiry, i);
        redisAppendCommand(redis, "MSET k:%u:0 v k:%u:1 v k:%u:2 v", i, i, i);
        pending += 2;
        if (pending >= 2000) {
            take_replies(redis, pending);
            pending = 0;
        }
    }
    take_replies(redis, pending);
}

double bench_info(redisContext *redis, const char *section, const char *field)
{
    redisReply *reply = redisCommand(redis, "INFO %s", section);
    const char *found = reply && reply->str ? strstr(reply->str, field) : NULL;
    double value = found ? atof(found + strlen(field) + 1) : 0;
    freeReplyObject(reply);
    return value;
}

pid_t bench_start_evictd(const char *evictd, const char *dir, const char *brokers, const char *socket,
                         const char *topic, const char *group)
{
    char conf[512], log[512];
    snprintf(conf, sizeof conf, "%s/evictd.conf", dir);
    snprintf(log, sizeof log, "%s/evictd.log", dir);
    FILE *file = fopen(conf, "w");
    if (!file)
        bench_die(conf, "cannot be written");
    fprintf(file,
            "kafka = { brokers = \"%s\"; group = \"%s\"; };\n"
            "redis = { url = \"unix://%s\"; };\n"
            "rules = ( { name = \"row-changed\"; topics = [ \"%s\" ]; format = \"json\";\n"
            "            when = ( { field = \"op\"; in = [ \"c\", \"u\", \"d\" ]; } );\n"
            "            tags = [ \"t:${row.id}\" ]; } );\n",
            brokers, group, socket, topic);
    fclose(file);
    pid_t pid = fork();
    if (pid < 0)
        bench_die("fork", "failed");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!freopen(log, "a", stderr))
            _exit(127);
        execl(evictd, "evictd", "run", "-c", conf, (char *)NULL);
        _exit(127);
    }
    return pid;
}

double bench_cpu_s(pid_t pid)
{
    char path[64], line[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file && fgets(line, sizeof line, file))
        sscanf(strrchr(line, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    if (file)
        fclose(file);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

double bench_peak_mib(pid_t pid)
{
    char path[64], line[256];
    double peak = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "VmHWM:", 6) == 0)
            peak = atof(line + 6) / 1024;
    }
    if (file)
        fclose(file);
    return peak;
}

void bench_stop(pid_t pid)
{
    int status;
    kill(pid, SIGTERM);
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        bench_die("evictd", "did not end well; see its log");
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}
