#include "kafka_properties.h"

#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nearest.h"

/* What no invalidation is lost by must not be set from outside. */
static const struct {
    const char *name;
    const char *remedy;
} reserved[] = {
    {"bootstrap.servers", "use kafka.brokers"},
    {"metadata.broker.list", "use kafka.brokers"},
    {"group.id", "use kafka.group"},
    {"auto.offset.reset", "use kafka.start"},
    {"enable.auto.commit", "remove it: evictd commits what Redis has applied"},
    {"auto.commit.enable", "remove it: evictd commits what Redis has applied"},
    {"enable.auto.offset.store", "remove it: evictd stores an offset when Redis has applied it"},
    {"enable.partition.eof", "remove it: evictd does without"},
    {"isolation.level", "remove it: evictd reads committed events only"},
    {"partition.assignment.strategy",
     "remove it: evictd assigns eagerly (cooperative ones are broken before librdkafka 2.6.1)"},
    {"group.protocol", "remove it: evictd speaks the classic protocol"},
    {"plugin.library.paths", "remove it: evictd loads no plugins"},
};

static int fail(char *error, size_t error_size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int fail(char *error, size_t error_size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, error_size, format, args);
    va_end(args);
    return -1;
}

static int fail_unknown(rd_kafka_conf_t *conf, const char *name, char *error, size_t error_size)
{
    struct nearest nearest = {.distance = NEAREST_NONE};
    size_t count;
    const char **properties = rd_kafka_conf_dump(conf, &count);
    for (size_t i = 0; i + 1 < count; i += 2) {
        if (strcmp(properties[i], name) != 0)
            nearest_try(&nearest, name, properties[i]);
    }
    if (nearest.name[0])
        fail(error, error_size, "librdkafka has no property \"%s\"; did you mean \"%s\"?", name,
             nearest.name);
    else
        fail(error, error_size, "librdkafka has no property \"%s\"; its CONFIGURATION.md lists them", name);
    rd_kafka_conf_dump_free(properties, count);
    return -1;
}

static int try_property(rd_kafka_conf_t *conf, const char *name, const char *value, char *error,
                        size_t error_size)
{
    char reason[256];
    switch (rd_kafka_conf_set(conf, name, value, reason, sizeof reason)) {
    case RD_KAFKA_CONF_UNKNOWN:
        return fail_unknown(conf, name, error, error_size);
    case RD_KAFKA_CONF_INVALID:
        return fail(error, error_size, "librdkafka refuses \"%.60s=%.60s\": %s; see its CONFIGURATION.md",
                    name, value, reason);
    default:
        return 0;
    }
}

static const char *remedy_if_reserved(const char *name)
{
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (strcmp(name, reserved[i].name) == 0)
            return reserved[i].remedy;
    }
    return NULL;
}

int kafka_property_check(const char *property, char *error, size_t error_size)
{
    const char *equals = strchr(property, '=');
    if (!equals || equals == property)
        return fail(error, error_size, "\"%s\" is no property; write \"name=value\"", property);
    char *name = strndup(property, (size_t)(equals - property));
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    const char *remedy = name ? remedy_if_reserved(name) : NULL;
    int status = 0;
    if (!name || !conf)
        status = fail(error, error_size, "out of memory; free some");
    else if (remedy)
        status = fail(error, error_size, "property \"%s\" is evictd's own; %s", name, remedy);
    else
        status = try_property(conf, name, equals + 1, error, error_size);
    if (conf)
        rd_kafka_conf_destroy(conf);
    free(name);
    return status;
}
