/* What rules.c (applying) and rules_build.c (compiling) share. */
#pragma once

#include <pthread.h>
#include <regex.h>

#include "rules.h"
#include "template.h"

struct rule_topic {
    char *name;
    bool is_pattern;
    regex_t pattern;
};

struct rule_template {
    struct template *template;
    char *glob; /* covers every name it can yield */
    bool is_tag;
};

struct rule {
    struct rules *rules;
    char *name;
    enum event_format format;
    bool has_tombstone_condition;
    bool wants_tombstones; /* it sees them and nothing else */
    struct rule_topic *topics;
    size_t topics_count;
    struct condition *conditions;
    size_t conditions_count;
    struct rule_template *templates; /* in file order: keys, then tags */
    size_t templates_count;
};

struct rules_for_topic {
    struct rules_for_topic *next;
    char *topic;
    const struct rule **items;
    size_t count;
    bool must_match; /* the items are all rules: look at their topics for each event */
};

/* The only part that changes after building. */
struct topic_memory {
    pthread_mutex_t mu;
    struct rules_for_topic *first; /* under mu; entries themselves never change */
    size_t count;                  /* under mu */
};

struct rules {
    struct rule **items;
    size_t count;
    size_t max_fan_out;
    const char **topics; /* each once; borrowed from the rules */
    size_t topics_count;
    struct rules_for_topic all; /* for want of memory */
    struct topic_memory *memory;
};

bool rule_listens(const struct rule *rule, const char *topic);
