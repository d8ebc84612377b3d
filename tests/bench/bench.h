/* bench: what the benchmarks share: Kafka topics and events, a Redis to fill, a process to watch. */
#pragma once

#include <hiredis/hiredis.h>
#include <librdkafka/rdkafka.h>
#include <stdint.h>
#include <sys/types.h>

#define BENCH_MEMBERS 3 /* of each tag */

double bench_now_s(void);
void bench_die(const char *what, const char *why) __attribute__((noreturn));

rd_kafka_t *bench_producer(const char *brokers);
void bench_create_topic(rd_kafka_t *rk, const char *topic, int partitions);
/** An event of about 300 bytes about row `id` with tag t:<id>. @return its size */
int bench_event(char *out, size_t size, unsigned id);

redisContext *bench_redis(const char *socket);
/** `count` tags of BENCH_MEMBERS members each, with their keys, as libcache writes them. */
void bench_fill_redis(redisContext *redis, unsigned count);
/** One number of INFO, such as "used_cpu_user". */
double bench_info(redisContext *redis, const char *section, const char *field);

/** Writes a configuration and its rules into `dir` and starts evictd with it; its log goes to dir/evictd.log.
 */
pid_t bench_start_evictd(const char *evictd, const char *dir, const char *brokers, const char *socket,
                         const char *topic, const char *group);
double bench_cpu_s(pid_t pid);    /* user and system time so far */
double bench_peak_mib(pid_t pid); /* peak resident memory */
void bench_stop(pid_t pid);

double bench_median(double *values, int count);
