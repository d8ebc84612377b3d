/* bench_agent EVICTD DIR BROKERS REDIS_SOCKET [EVENTS [ROUNDS]]: drains a prepared backlog through evictd,
 * and beside it measures the ceiling: the same Redis commands in the same batches, prepared in memory,
 * pipelined by a client that does nothing else. Prints one line a round on stderr and a JSON object of
 * medians on stdout. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "connection.h"
#include "invalidate.h"

#define PARTITIONS 8
#define BATCH      256 /* tags of a call: what evictd makes of a backlog */
#define IN_PIPE    3   /* calls on their way, as with evictd */
#define ROUNDS_MAX 9

struct round {
    double events_per_s, ceiling_per_s, agent_us, redis_us, peak_mib;
};

static void produce(rd_kafka_t *rk, const char *topic, unsigned events)
{
    char value[1024], key[16];
    for (unsigned i = 0; i < events; i++) {
        int size = bench_event(value, sizeof value, i), key_size = snprintf(key, sizeof key, "%u", i);
        while (rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION((int)(i % PARTITIONS)),
                                 RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                 RD_KAFKA_V_KEY(key, (size_t)key_size), RD_KAFKA_V_VALUE(value, (size_t)size),
                                 RD_KAFKA_V_END))
            rd_kafka_poll(rk, 10);
    }
    if (rd_kafka_flush(rk, 60000))
        bench_die("produce", "the broker does not take the backlog");
}

/* How many events Redis has applied. */
static long long applied(redisContext *redis)
{
    long long sum = 0;
    redisReply *reply = redisCommand(redis, "HVALS evict:{main}:applied");
    for (size_t i = 0; reply && reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++)
        sum += atoll(reply->element[i]->str);
    freeReplyObject(reply);
    return sum;
}

static long long wait_applied(redisContext *redis, long long wanted, double *ret_at)
{
    double deadline = bench_now_s() + 120;
    for (;;) {
        long long now = applied(redis);
        *ret_at = bench_now_s();
        if (now >= wanted)
            return now;
        if (*ret_at > deadline)
            bench_die("evictd", "the backlog does not drain; see its log");
        poll(NULL, 0, 2);
    }
}

static double redis_cpu(redisContext *redis)
{
    return bench_info(redis, "cpu", "used_cpu_user") + bench_info(redis, "cpu", "used_cpu_sys");
}

static void measure_agent(char **argv, redisContext *redis, const char *topic, unsigned events, int number,
                          struct round *round)
{
    char group[32];
    double start, end;
    snprintf(group, sizeof group, "bench-%d", number);
    bench_fill_redis(redis, events);
    pid_t pid = bench_start_evictd(argv[1], argv[2], argv[3], argv[4], topic, group);
    long long first = wait_applied(redis, 1, &start); /* joining the group is not what is measured */
    double redis_before = redis_cpu(redis), agent_before = bench_cpu_s(pid);
    wait_applied(redis, events, &end);
    round->events_per_s = (double)(events - first) / (end - start);
    round->agent_us = (bench_cpu_s(pid) - agent_before) / (double)(events - first) * 1e6;
    round->redis_us = (redis_cpu(redis) - redis_before) / (double)(events - first) * 1e6;
    round->peak_mib = bench_peak_mib(pid);
    bench_stop(pid);
    if (bench_info(redis, "keyspace", "keys") > 10)
        bench_die("evictd", "keys are left in Redis");
}

/* All calls for the whole backlog, in wire format. */
static struct resp *prepare(struct connection *connection, const struct names *names, unsigned events,
                            unsigned *ret_calls)
{
    unsigned calls = (events + BATCH - 1) / BATCH;
    struct resp *all = calloc(calls, sizeof *all);
    struct broadcast_writer *writer = broadcast_writer_create();
    static char text[BATCH][24];
    static struct invalidate_slice tags[BATCH];
    char epoch[EPOCH_SIZE], field[32];
    if (!all || !writer)
        bench_die("prepare", "out of memory");
    epoch_random(epoch);
    for (unsigned c = 0; c < calls; c++) {
        unsigned count = events - c * BATCH < BATCH ? events - c * BATCH : BATCH;
        broadcast_writer_clear(writer);
        for (unsigned i = 0; i < count; i++) {
            int size = snprintf(text[i], sizeof text[i], "t:%u", c * BATCH + i);
            tags[i] = (struct invalidate_slice){text[i], (size_t)size};
            if (broadcast_writer_add(writer, BROADCAST_TAGS, text[i], (size_t)size) < 0)
                bench_die("prepare", "out of memory");
        }
        if (broadcast_writer_finish(writer) < 0)
            bench_die("prepare", "out of memory");
        snprintf(field, sizeof field, "bench/topic/%u", c % PARTITIONS);
        struct invalidate_partition partition = {field, -1, (int64_t)c * BATCH + count};
        struct invalidate_call call = {.new_epoch = epoch,
                                       .expected_epoch = "",
                                       .log_length = 4096,
                                       .tags = tags,
                                       .tags_count = count,
                                       .broadcast = writer,
                                       .partitions = &partition,
                                       .partitions_count = 1};
        resp_init(&all[c]);
        invalidate_encode(&all[c], connection->sha[SCRIPT_INVALIDATE], names, &call, 0);
        if (all[c].has_failed)
            bench_die("prepare", "out of memory");
    }
    broadcast_writer_destroy(&writer);
    *ret_calls = calls;
    return all;
}

static void write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0)
            bench_die("redis", "write failed");
        data += n;
        size -= (size_t)n;
    }
}

static void measure_ceiling(const char *socket, redisContext *redis, unsigned events, struct round *round)
{
    struct redis_url url = {.port = 0};
    struct connection connection;
    struct names names;
    unsigned calls, sent = 0, answered = 0;
    snprintf(url.path, sizeof url.path, "%s", socket);
    bench_fill_redis(redis, events);
    if (connection_open(&connection, &url, 10000, 1u << SCRIPT_INVALIDATE) < 0 ||
        names_init(&names, "main", "tag:", "lease:") < 0)
        bench_die("redis", connection.error);
    struct resp *all = prepare(&connection, &names, events, &calls);
    double start = bench_now_s();
    while (answered < calls) {
        for (; sent < calls && sent - answered < IN_PIPE; sent++)
            write_all(connection.context->fd, all[sent].data, all[sent].size);
        void *reply;
        if (redisGetReply(connection.context, &reply) != REDIS_OK ||
            ((redisReply *)reply)->type != REDIS_REPLY_ARRAY)
            bench_die("redis", "the ceiling's call failed");
        freeReplyObject(reply);
        answered++;
    }
    round->ceiling_per_s = events / (bench_now_s() - start);
    for (unsigned c = 0; c < calls; c++)
        resp_deinit(&all[c]);
    free(all);
    names_deinit(&names);
    connection_close(&connection);
}

#define MEDIAN(field)                                                                                        \
    ({                                                                                                       \
        double values_[ROUNDS_MAX];                                                                          \
        for (int i_ = 0; i_ < rounds; i_++)                                                                  \
            values_[i_] = round[i_].field;                                                                   \
        bench_median(values_, rounds);                                                                       \
    })

int main(int argc, char **argv)
{
    if (argc < 5)
        bench_die("usage", "bench_agent EVICTD DIR BROKERS REDIS_SOCKET [EVENTS [ROUNDS]]");
    unsigned events = argc > 5 ? (unsigned)atoi(argv[5]) : 300000;
    int rounds = argc > 6 ? atoi(argv[6]) : 3;
    const char *topic = "bench.rows";
    struct round round[ROUNDS_MAX];
    if (rounds < 1 || rounds > ROUNDS_MAX || events < BATCH)
        bench_die("usage", "1 to 9 rounds of at least 256 events");
    rd_kafka_t *rk = bench_producer(argv[3]);
    redisContext *redis = bench_redis(argv[4]);
    bench_create_topic(rk, topic, PARTITIONS);
    produce(rk, topic, events);
    for (int i = 0; i < rounds; i++) {
        measure_agent(argv, redis, topic, events, i, &round[i]);
        measure_ceiling(argv[4], redis, events, &round[i]);
        fprintf(stderr,
                "round %d: %.0f events/s, ceiling %.0f, ratio %.2f, agent %.2f us, redis %.2f us, %.1f MiB\n",
                i + 1, round[i].events_per_s, round[i].ceiling_per_s,
                round[i].events_per_s / round[i].ceiling_per_s, round[i].agent_us, round[i].redis_us,
                round[i].peak_mib);
    }
    printf("{\"events_per_s\":%.0f,\"ceiling_per_s\":%.0f,\"agent_cpu_us_per_event\":%.2f,"
           "\"redis_cpu_us_per_event\":%.2f,\"peak_rss_mib\":%.1f}\n",
           MEDIAN(events_per_s), MEDIAN(ceiling_per_s), MEDIAN(agent_us), MEDIAN(redis_us), MEDIAN(peak_mib));
    redisFree(redis);
    rd_kafka_destroy(rk);
    return 0;
}
