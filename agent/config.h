/* config: evictd.conf and its rules files -> one checked, immutable struct config. Runs at start, on the main
 * thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "rules.h"

enum dead_letter_policy { DEAD_LETTER_SEND, DEAD_LETTER_SKIP, DEAD_LETTER_STOP };
enum config_start { START_EARLIEST, START_LATEST };

struct config {
    char *namespace_name; /* "main" */
    char *tag_prefix;     /* "tag:" */
    char *lease_prefix;   /* "lease:" */
    struct {
        char *brokers;           /* "localhost:9092" */
        char *group;             /* "evictd" */
        enum config_start start; /* where a group without committed offsets begins: earliest */
        char **properties;       /* "name=value" for librdkafka, checked against the names evictd reserves */
        size_t properties_count;
    } kafka;
    struct {
        char *url;          /* redis://[[user]:password@]host[:port][/db], unix:///path[?db=n] */
        int64_t log_length; /* broadcasts kept for replay: 4096 */
    } redis;
    struct {
        char *topic; /* "evictd.dead-letters" */
        enum dead_letter_policy policy;
    } dead_letter;
    struct {
        int level; /* LOG_ERROR.. as in log.h: "error" | "warning" | "info" | "debug" */
        int json;  /* log.format = "keyvalue" | "json" */
    } log;
    int64_t max_fan_out; /* keys and tags one event may evict: 10000 */
    int trace;           /* broadcasts carry "cause": false */
    int members;         /* broadcasts carry the deleted members as keys too: false */
    struct rules *rules;
};

/** Reads and checks everything. On errors prints each to `err` (a FILE) as "file:line: what, expected what,
 * remedy" and reports as many as it can find, not only the first.
 * @return 0, or the number of errors (nothing to free then). */
int config_load(const char *path, void *err, struct config **ret_config) __attribute__((warn_unused_result));

/** The same from text in memory, for the embedded defaults and for fuzzing: rules stand in the same text. */
int config_load_text(const char *text, void *err, struct config **ret_config)
    __attribute__((warn_unused_result));

void config_unload(struct config **config); /* not _destroy: libconfig exports a config_destroy */

/** Prints every setting with type, default and meaning: the documentation comes from the table that parses.
 */
void config_print_reference(void *out);
