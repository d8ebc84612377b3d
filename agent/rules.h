/* rules: event -> keys and tags to evict. Compiled once from the configuration, then read-only and shared by
 * threads (but for a memory of topics looked up, under a mutex). Pure: no I/O, no clock. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "condition.h"
#include "event.h"

#define RULES_MAX 10000 /* of one configuration */

struct rule;  /* one compiled rule */
struct rules; /* all of them, in file order */
struct rules_for_topic;
struct rules_scratch; /* working memory of one thread */

/* Receives what a rule yields. @return 0 to go on; anything else stops and is returned by rules_apply. */
struct rules_sink {
    int (*key)(void *arg, const struct rule *rule, const char *key, size_t size);
    int (*tag)(void *arg, const struct rule *rule, const char *tag, size_t size);
    void *arg;
};

/** The rules that listen to a topic; NULL when none does. Looked up once per partition batch, not per event.
 * Valid as long as the rules. Never fails: short of memory it gives one that compares topics event by event.
 */
const struct rules_for_topic *rules_topic(const struct rules *rules, const char *topic);

/** Decodes the event in the topic's format(s), applies every rule of the topic, in order, and hands what they
 * yield to the sink. All or nothing: on an error nothing of this event has been handed over.
 * @param ret_matched number of rules that matched
 * @return 0, -1 with *ret_error (permanent: dead-letter it), EVENT_NO_MEMORY with *ret_error (says nothing
 * about the event: try again), or what a sink callback returned. */
int rules_apply(const struct rules_for_topic *topic, const struct event_source *source,
                struct rules_scratch *scratch, const struct rules_sink *sink, size_t *ret_matched,
                struct event_error *ret_error) __attribute__((warn_unused_result));

/** Working memory of one thread: document, expansion buffers. */
struct rules_scratch *rules_scratch_create(void);
void rules_scratch_destroy(struct rules_scratch **scratch);

const char *rule_name(const struct rule *rule);

/** Globs over Redis key names that cover all that the topic's rules can ever evict (literal text with every
 * ${...} as
 * '*', glob characters of the literals escaped), for a flush after a retention gap. Tag globs carry
 * tag_prefix.
 * @param emit called once per glob, duplicates removed; short of memory it gets "*", which covers everything
 */
void rules_scope(const struct rules *rules, const char *topic, const char *tag_prefix,
                 void (*emit)(void *arg, const char *glob), void *arg);

/** The topics that rules name, each once, patterns (starting with '^') included: what the consumer subscribes
 * to. */
size_t rules_topics_count(const struct rules *rules);
const char *rules_topics_get(const struct rules *rules, size_t i);

/* --- building: by one thread, before anything above. Errors are texts "what; remedy", without a place. ---
 */

/** @param max_fan_out keys and tags that one event may yield @return NULL: out of memory */
struct rules *rules_create(int64_t max_fan_out);
void rules_destroy(struct rules **rules);
size_t rules_count(const struct rules *rules);
bool rules_has(const struct rules *rules, const char *name);

/** Adds an empty rule. @return NULL: out of memory */
struct rule *rules_add(struct rules *rules, const char *name, enum event_format format);
int rule_add_topic(struct rule *rule, const char *topic, char *error, size_t error_size)
    __attribute__((warn_unused_result));
int rule_add_key(struct rule *rule, const char *template, char *error, size_t error_size)
    __attribute__((warn_unused_result));
int rule_add_tag(struct rule *rule, const char *template, char *error, size_t error_size)
    __attribute__((warn_unused_result));
/** The rule sees tombstones only (true) or never (false, as without it). */
int rule_add_tombstone(struct rule *rule, bool expected, char *error, size_t error_size)
    __attribute__((warn_unused_result));
/** See condition_compile. */
int rule_add_condition(struct rule *rule, enum condition_kind kind, const char *field,
                       const struct constant *constants, size_t count, bool expected, char *error,
                       size_t error_size) __attribute__((warn_unused_result));
/** Checks the whole: it has topics and yields something, and reads fields only where there are any. */
int rule_check(const struct rule *rule, char *error, size_t error_size) __attribute__((warn_unused_result));
