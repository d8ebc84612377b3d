/* rules_build: puts rules together and checks them. At start, on the main thread. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rules_internal.h"

#define TOPIC_SIZE_MAX 249 /* Kafka's bound of a topic's name, taken for patterns as well */

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

/* Makes room for one more item of an array whose capacity is the power of two at or above its count. */
static void *grow(void *items, size_t count, size_t item_size)
{
    if (count > 0 && (count & (count - 1)) != 0)
        return items;
    return realloc(items, (count ? 2 * count : 1) * item_size);
}

struct rules *rules_create(int64_t max_fan_out)
{
    struct rules *rules = calloc(1, sizeof *rules);
    if (!rules)
        return NULL;
    rules->memory = calloc(1, sizeof *rules->memory);
    if (!rules->memory) {
        free(rules);
        return NULL;
    }
    pthread_mutex_init(&rules->memory->mu, NULL);
    rules->max_fan_out = (size_t)max_fan_out;
    rules->all.must_match = true;
    return rules;
}

static void destroy_rule(struct rule *rule)
{
    for (size_t i = 0; i < rule->topics_count; i++) {
        if (rule->topics[i].is_pattern)
            regfree(&rule->topics[i].pattern);
        free(rule->topics[i].name);
    }
    for (size_t i = 0; i < rule->conditions_count; i++)
        condition_deinit(&rule->conditions[i]);
    for (size_t i = 0; i < rule->templates_count; i++) {
        template_destroy(&rule->templates[i].template);
        free(rule->templates[i].glob);
    }
    free(rule->topics);
    free(rule->conditions);
    free(rule->templates);
    free(rule->name);
    free(rule);
}

void rules_destroy(struct rules **rules)
{
    if (!rules || !*rules)
        return;
    for (struct rules_for_topic *topic = (*rules)->memory->first; topic;) {
        struct rules_for_topic *next = topic->next;
        free(topic->topic);
        free(topic->items);
        free(topic);
        topic = next;
    }
    for (size_t i = 0; i < (*rules)->count; i++)
        destroy_rule((*rules)->items[i]);
    pthread_mutex_destroy(&(*rules)->memory->mu);
    free((*rules)->memory);
    free((*rules)->items);
    free((*rules)->topics);
    free(*rules);
    *rules = NULL;
}

size_t rules_count(const struct rules *rules)
{
    return rules->count;
}

bool rules_has(const struct rules *rules, const char *name)
{
    for (size_t i = 0; i < rules->count; i++) {
        if (strcmp(rules->items[i]->name, name) == 0)
            return true;
    }
    return false;
}

struct rule *rules_add(struct rules *rules, const char *name, enum event_format format)
{
    struct rule **items = grow(rules->items, rules->count, sizeof *items);
    struct rule *rule = calloc(1, sizeof *rule);
    if (items) {
        rules->items = items;
        rules->all.items = (const struct rule **)items;
    }
    if (!items || !rule || !(rule->name = strdup(name))) {
        free(rule);
        return NULL;
    }
    rule->rules = rules;
    rule->format = format;
    items[rules->count++] = rule;
    rules->all.count = rules->count;
    return rule;
}

const char *rule_name(const struct rule *rule)
{
    return rule->name;
}

/* --- topics --- */

static bool is_topic_name(const char *name)
{
    return name[0] != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
           name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")] == '\0';
}

/* As librdkafka reads them: a POSIX extended expression that begins with '^' and need not reach the topic's
 * end. */
static int compile_topic(struct rule_topic *topic, char *error, size_t error_size)
{
    if (strlen(topic->name) > TOPIC_SIZE_MAX)
        return fail(error, error_size, "a topic is longer than %d bytes; Kafka knows no such topic",
                    TOPIC_SIZE_MAX);
    if (topic->name[0] != '^') {
        if (is_topic_name(topic->name))
            return 0;
        return fail(error, error_size,
                    "\"%s\" cannot be a topic; use A-Z a-z 0-9 . _ - or begin a regular expression with ^",
                    topic->name);
    }
    /* Nested repetitions take memory without bound when they are compiled. */
    if (strchr(topic->name, '{'))
        return fail(error, error_size, "topic pattern \"%s\" has a {repetition}; write it out", topic->name);
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the rule frees its topics */
    int status = regcomp(&topic->pattern, topic->name, REG_EXTENDED | REG_NOSUB);
    if (status == 0) {
        topic->is_pattern = true;
        return 0;
    }
    char reason[128];
    regerror(status, NULL, reason, sizeof reason);
    return fail(error, error_size, "topic pattern \"%s\": %s; write a POSIX extended regular expression",
                topic->name, reason);
}

static int remember_topic(struct rules *rules, const char *name)
{
    for (size_t i = 0; i < rules->topics_count; i++) {
        if (strcmp(rules->topics[i], name) == 0)
            return 0;
    }
    const char **topics = grow(rules->topics, rules->topics_count, sizeof *topics);
    if (!topics)
        return -1;
    rules->topics = topics;
    topics[rules->topics_count++] = name;
    return 0;
}

int rule_add_topic(struct rule *rule, const char *name, char *error, size_t error_size)
{
    struct rule_topic topic = {.name = strdup(name)};
    struct rule_topic *topics = grow(rule->topics, rule->topics_count, sizeof *topics);
    if (topics)
        rule->topics = topics;
    if (!topic.name || !topics) {
        free(topic.name);
        return fail(error, error_size, "out of memory; free some");
    }
    if (compile_topic(&topic, error, error_size) < 0) {
        free(topic.name);
        return -1;
    }
    topics[rule->topics_count++] = topic;
    return remember_topic(rule->rules, topic.name) < 0 ? fail(error, error_size, "out of memory; free some")
                                                       : 0;
}

/* --- keys, tags, conditions --- */

static int add_template(struct rule *rule, const char *text, bool is_tag, char *error, size_t error_size)
{
    struct rule_template added = {.is_tag = is_tag};
    struct rule_template *templates = grow(rule->templates, rule->templates_count, sizeof *templates);
    if (!templates)
        return fail(error, error_size, "out of memory; free some");
    rule->templates = templates;
    char reason[256];
    if (template_compile(text, &added.template, reason, sizeof reason) < 0)
        return fail(error, error_size, "template \"%.100s\", %s", text, reason);
    added.glob = template_glob(added.template);
    if (!added.glob) {
        template_destroy(&added.template);
        return fail(error, error_size, "out of memory; free some");
    }
    templates[rule->templates_count++] = added;
    return 0;
}

int rule_add_key(struct rule *rule, const char *template, char *error, size_t error_size)
{
    return add_template(rule, template, false, error, error_size);
}

int rule_add_tag(struct rule *rule, const char *template, char *error, size_t error_size)
{
    return add_template(rule, template, true, error, error_size);
}

int rule_add_tombstone(struct rule *rule, bool expected, char *error, size_t error_size)
{
    if (rule->has_tombstone_condition)
        return fail(error, error_size, "a second \"tombstone\" in the same rule; keep one");
    rule->has_tombstone_condition = true;
    rule->wants_tombstones = expected;
    return 0;
}

int rule_add_condition(struct rule *rule, enum condition_kind kind, const char *field,
                       const struct constant *constants, size_t count, bool expected, char *error,
                       size_t error_size)
{
    struct condition *conditions = grow(rule->conditions, rule->conditions_count, sizeof *conditions);
    if (!conditions)
        return fail(error, error_size, "out of memory; free some");
    rule->conditions = conditions;
    if (condition_compile(kind, field, constants, count, expected, &conditions[rule->conditions_count], error,
                          error_size) < 0)
        return -1;
    rule->conditions_count++;
    return 0;
}

/* The first path that looks into the event's value, or NULL. */
static const char *document_path(const struct rule *rule)
{
    for (size_t i = 0; i < rule->conditions_count; i++) {
        if (rule->conditions[i].path.root == PATH_DOCUMENT)
            return rule->conditions[i].path.text;
    }
    for (size_t i = 0; i < rule->templates_count; i++) {
        const char *path = template_document_path(rule->templates[i].template);
        if (path)
            return path;
    }
    return NULL;
}

int rule_check(const struct rule *rule, char *error, size_t error_size)
{
    const char *path = document_path(rule);
    if (rule->topics_count == 0)
        return fail(error, error_size, "rule \"%s\" has no topics; add topics = [ \"...\" ]", rule->name);
    if (rule->templates_count == 0)
        return fail(error, error_size, "rule \"%s\" evicts nothing; add keys or tags", rule->name);
    if (path && rule->wants_tombstones)
        return fail(
            error, error_size,
            "rule \"%s\" reads \"%s\", but a tombstone has no fields; use @key, @topic or @header.name",
            rule->name, path);
    if (path && rule->format == FORMAT_RAW)
        return fail(
            error, error_size,
            "rule \"%s\" reads \"%s\", but format \"raw\" has no fields; use @key, @topic or @header.name",
            rule->name, path);
    return 0;
}
