/* bench_latency EVICTD DIR BROKERS REDIS_SOCKET [EVENTS_PER_S [SECONDS]]: how long from producing an event
 * until the value is gone from the L1 of another process. The producer is a process of its own; both read the
 * same clock. */
#include <cache/cache.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define PARTITIONS 8
#define WARM_UP_S  8 /* at the same rate: until the broker's JVM has compiled what it runs */

struct shared {
    _Atomic unsigned is_started;
    double produced_at[]; /* 0: not yet; written before the record leaves */
};

static void send_event(rd_kafka_t *rk, const char *topic, unsigned id)
{
    char value[1024];
    int size = bench_event(value, sizeof value, id);
    rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION((int)(id % PARTITIONS)),
                      RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_VALUE(value, (size_t)size),
                      RD_KAFKA_V_END);
    rd_kafka_poll(rk, 0);
}

/* Events first, first + 1 ... at an even pace. */
static void produce_at(rd_kafka_t *rk, const char *topic, struct shared *shared, unsigned first,
                       unsigned count, unsigned per_s)
{
    double start = bench_now_s();
    for (unsigned i = 0; i < count; i++) {
        double due = start + (double)i / per_s, now;
        while ((now = bench_now_s()) < due)
            poll(NULL, 0, 1);
        if (shared)
            __atomic_store(&shared->produced_at[i], &now, __ATOMIC_RELEASE);
        send_event(rk, topic, first + i);
    }
}

static void producer(const char *brokers, const char *topic, struct shared *shared, unsigned events,
                     unsigned per_s)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    rd_kafka_t *rk = bench_producer(brokers);
    while (!shared->is_started)
        poll(NULL, 0, 1);
    produce_at(rk, topic, NULL, events, WARM_UP_S * per_s, per_s); /* ids that nobody watches */
    produce_at(rk, topic, shared, 0, events, per_s);
    rd_kafka_flush(rk, 10000);
    rd_kafka_destroy(rk);
    _exit(0);
}

static void fill_l1(cache *c, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char key[24], tag[24];
        cache_slice tag_slice = cache_slice_of(tag, (size_t)snprintf(tag, sizeof tag, "t:%u", i));
        cache_slice key_slice = cache_slice_of(key, (size_t)snprintf(key, sizeof key, "k:%u", i));
        if (cache_set(c, key_slice, CACHE_LITERAL("value"), &tag_slice, 1, 600000) != CACHE_OK)
            bench_die("cache", "set failed");
    }
}

static int is_in_l1(cache *c, unsigned id)
{
    char key[24], value[16];
    cache_info info;
    int size = snprintf(key, sizeof key, "k:%u", id);
    return cache_get(c, cache_slice_of(key, (size_t)size), value, sizeof value, &info) == CACHE_OK &&
           info.level == CACHE_LEVEL_L1;
}

static double percentile(const double *sorted, unsigned count, double share)
{
    unsigned i = (unsigned)(share * count);
    return sorted[i < count ? i : count - 1];
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Looks at every value whose event was produced, again and again, until it is gone. */
static double *watch(cache *c, struct shared *shared, unsigned events)
{
    double *latency_ms = calloc(events, sizeof *latency_ms);
    unsigned char *is_gone = calloc(events, 1);
    unsigned first = 0, left = events;
    double deadline = bench_now_s() + 120;
    while (left) {
        for (unsigned i = first; i < events; i++) {
            double at;
            __atomic_load(&shared->produced_at[i], &at, __ATOMIC_ACQUIRE);
            if (at == 0)
                break;
            if (is_gone[i] || is_in_l1(c, i))
                continue;
            latency_ms[i] = (bench_now_s() - at) * 1000;
            is_gone[i] = 1;
            left--;
        }
        while (first < events && is_gone[first])
            first++;
        if (bench_now_s() > deadline)
            bench_die("latency", "some values never left L1");
        usleep(200);
    }
    free(is_gone);
    return latency_ms;
}

int main(int argc, char **argv)
{
    if (argc < 5)
        bench_die("usage", "bench_latency EVICTD DIR BROKERS REDIS_SOCKET [EVENTS_PER_S [SECONDS]]");
    unsigned per_s = argc > 5 ? (unsigned)atoi(argv[5]) : 2000;
    unsigned events = per_s * (argc > 6 ? (unsigned)atoi(argv[6]) : 10);
    const char *topic = "bench.latency";
    char url[256];
    cache_options options = CACHE_OPTIONS_INIT;
    cache *c;
    struct shared *shared = mmap(NULL, sizeof *shared + events * sizeof(double), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        bench_die("mmap", "failed");
    rd_kafka_t *rk = bench_producer(argv[3]);
    bench_create_topic(rk, topic, PARTITIONS);
    rd_kafka_destroy(rk);
    pid_t child = fork();
    if (child == 0)
        producer(argv[3], topic, shared, events, per_s);
    pid_t evictd = bench_start_evictd(argv[1], argv[2], argv[3], argv[4], topic, "bench-latency");
    snprintf(url, sizeof url, "unix://%s", argv[4]);
    options.redis_url = url;
    options.l1_ttl_ms = 600000;
    if (cache_create(&options, &c) != CACHE_OK || cache_wait_current(c, 10000) != CACHE_OK)
        bench_die("cache", "does not become current");
    fill_l1(c, events);
    shared->is_started = 1;
    double *latency_ms = watch(c, shared, events);
    qsort(latency_ms, events, sizeof *latency_ms, compare);
    printf("{\"p50_ms\":%.2f,\"p99_ms\":%.2f,\"p999_ms\":%.2f}\n", percentile(latency_ms, events, 0.5),
           percentile(latency_ms, events, 0.99), percentile(latency_ms, events, 0.999));
    waitpid(child, NULL, 0);
    bench_stop(evictd);
    free(latency_ms);
    cache_destroy(&c);
    munmap(shared, sizeof *shared + events * sizeof(double));
    return 0;
}
