#include "rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "glob.h"
#include "rules_internal.h"

#define TOPICS_REMEMBERED_MAX 10000 /* looked up; beyond it topics are compared event by event */
#define FORMATS               (FORMAT_RAW + 1)

/* Names in scratch->output that one rule yielded in a row, all keys or all tags. */
struct run {
    const struct rule *rule;
    bool is_tag;
    size_t end; /* the run's last name + 1 */
};

struct rules_scratch {
    struct json_document documents[FORMATS];
    struct event events[FORMATS];
    bool is_decoded[FORMATS];
    struct template_output output;
    struct run *runs;
    size_t runs_count, runs_capacity;
};

/* --- topics --- */

bool rule_listens(const struct rule *rule, const char *topic)
{
    for (size_t i = 0; i < rule->topics_count; i++) {
        const struct rule_topic *t = &rule->topics[i];
        if (t->is_pattern ? regexec(&t->pattern, topic, 0, NULL, 0) == 0 : strcmp(t->name, topic) == 0)
            return true;
    }
    return false;
}

static struct rules_for_topic *find_rules(const struct rules *rules, const char *topic, size_t count)
{
    struct rules_for_topic *found = calloc(1, sizeof *found);
    if (!found)
        return NULL;
    found->topic = strdup(topic);
    found->items = calloc(count, sizeof *found->items);
    if (!found->topic || !found->items) {
        free(found->topic);
        free(found->items);
        free(found);
        return NULL;
    }
    for (size_t i = 0; i < rules->count; i++) {
        if (rule_listens(rules->items[i], topic))
            found->items[found->count++] = rules->items[i];
    }
    return found;
}

const struct rules_for_topic *rules_topic(const struct rules *rules, const char *topic)
{
    struct topic_memory *memory = rules->memory;
    const struct rules_for_topic *ret_topic = NULL;
    size_t count = 0;
    for (size_t i = 0; i < rules->count; i++)
        count += rule_listens(rules->items[i], topic);
    if (count == 0)
        return NULL;
    pthread_mutex_lock(&memory->mu);
    for (const struct rules_for_topic *t = memory->first; t && !ret_topic; t = t->next) {
        if (strcmp(t->topic, topic) == 0)
            ret_topic = t;
    }
    if (!ret_topic) {
        struct rules_for_topic *found =
            memory->count < TOPICS_REMEMBERED_MAX ? find_rules(rules, topic, count) : NULL;
        if (found) {
            found->next = memory->first;
            memory->first = found;
            memory->count++;
        }
        ret_topic = found ? found : &rules->all;
    }
    pthread_mutex_unlock(&memory->mu);
    return ret_topic;
}

size_t rules_topics_count(const struct rules *rules)
{
    return rules->topics_count;
}

const char *rules_topics_get(const struct rules *rules, size_t i)
{
    return rules->topics[i];
}

/* --- applying --- */

struct rules_scratch *rules_scratch_create(void)
{
    return calloc(1, sizeof(struct rules_scratch));
}

void rules_scratch_destroy(struct rules_scratch **scratch)
{
    if (!scratch || !*scratch)
        return;
    for (size_t i = 0; i < FORMATS; i++)
        json_deinit(&(*scratch)->documents[i]);
    template_output_deinit(&(*scratch)->output);
    free((*scratch)->runs);
    free(*scratch);
    *scratch = NULL;
}

static void begin(struct rules_scratch *scratch)
{
    template_output_clear(&scratch->output);
    memset(scratch->is_decoded, 0, sizeof scratch->is_decoded);
    scratch->runs_count = 0;
}

static int no_memory(struct event_error *ret_error)
{
    snprintf(ret_error->text, sizeof ret_error->text, "out of memory");
    return EVENT_NO_MEMORY;
}

/* Closes the run of names that a template added. */
static int add_run(struct rules_scratch *scratch, const struct rule *rule, bool is_tag)
{
    struct run *last = scratch->runs_count ? &scratch->runs[scratch->runs_count - 1] : NULL;
    if (last && last->rule == rule && last->is_tag == is_tag) {
        last->end = scratch->output.names_count;
        return 0;
    }
    if (scratch->runs_count == scratch->runs_capacity) {
        size_t capacity = scratch->runs_capacity ? 2 * scratch->runs_capacity : 8;
        struct run *runs = realloc(scratch->runs, capacity * sizeof *runs);
        if (!runs)
            return -1;
        scratch->runs = runs;
        scratch->runs_capacity = capacity;
    }
    scratch->runs[scratch->runs_count++] = (struct run){rule, is_tag, scratch->output.names_count};
    return 0;
}

/* Decodes in the rule's format unless that was done for an earlier rule. */
static int decode(const struct rule *rule, const struct event_source *source, struct rules_scratch *scratch,
                  struct event_error *ret_error)
{
    if (scratch->is_decoded[rule->format])
        return 0;
    int status = event_decode(rule->format, source, &scratch->documents[rule->format],
                              &scratch->events[rule->format], ret_error);
    scratch->is_decoded[rule->format] = status == 0;
    return status;
}

/* @return 1: matched, 0: did not, or an error */
static int apply_rule(const struct rule *rule, const struct event_source *source,
                      struct rules_scratch *scratch, struct event_error *ret_error)
{
    if (rule->wants_tombstones != !source->value)
        return 0;
    int status = decode(rule, source, scratch, ret_error);
    if (status < 0)
        return status;
    const struct event *event = &scratch->events[rule->format];
    for (size_t i = 0; i < rule->conditions_count; i++) {
        status = condition_holds(&rule->conditions[i], event, &scratch->output.values);
        if (status <= 0)
            return status < 0 ? no_memory(ret_error) : 0;
    }
    for (size_t i = 0; i < rule->templates_count; i++) {
        const struct rule_template *template = &rule->templates[i];
        status =
            template_expand(template->template, event, rule->rules->max_fan_out, &scratch->output, ret_error);
        if (status < 0)
            return status;
        if (add_run(scratch, rule, template->is_tag) < 0)
            return no_memory(ret_error);
    }
    return 1;
}

static int deliver(const struct rules_scratch *scratch, const struct rules_sink *sink)
{
    size_t name = 0;
    for (size_t i = 0; i < scratch->runs_count; i++) {
        const struct run *run = &scratch->runs[i];
        for (; name < run->end; name++) {
            const struct template_name *n = &scratch->output.names[name];
            int status = (run->is_tag ? sink->tag : sink->key)(sink->arg, run->rule,
                                                               scratch->output.bytes + n->start, n->size);
            if (status != 0)
                return status;
        }
    }
    return 0;
}

int rules_apply(const struct rules_for_topic *topic, const struct event_source *source,
                struct rules_scratch *scratch, const struct rules_sink *sink, size_t *ret_matched,
                struct event_error *ret_error)
{
    size_t matched = 0;
    begin(scratch);
    for (size_t i = 0; i < topic->count; i++) {
        const struct rule *rule = topic->items[i];
        if (topic->must_match && !rule_listens(rule, source->topic))
            continue;
        int status = apply_rule(rule, source, scratch, ret_error);
        if (status < 0) {
            ret_error->rule = rule->name;
            return status;
        }
        matched += status > 0;
    }
    int status = deliver(scratch, sink);
    if (status == 0)
        *ret_matched = matched;
    return status;
}

/* --- scope --- */

struct scope {
    char **globs;
    size_t count, capacity;
    bool has_failed;
};

static void add_glob(struct scope *scope, char *glob)
{
    for (size_t i = 0; glob && i < scope->count; i++) {
        if (strcmp(scope->globs[i], glob) == 0) {
            free(glob);
            return;
        }
    }
    if (glob && scope->count == scope->capacity) {
        size_t capacity = scope->capacity ? 2 * scope->capacity : 16;
        char **globs = realloc(scope->globs, capacity * sizeof *globs);
        scope->globs = globs ? globs : scope->globs;
        scope->capacity = globs ? capacity : scope->capacity;
    }
    if (!glob || scope->count == scope->capacity) {
        scope->has_failed = true;
        free(glob);
        return;
    }
    scope->globs[scope->count++] = glob;
}

static void add_rule_globs(struct scope *scope, const struct rule *rule, const char *prefix)
{
    for (size_t i = 0; i < rule->templates_count; i++) {
        const char *glob = rule->templates[i].glob;
        char *added = NULL;
        if (!rule->templates[i].is_tag) {
            added = strdup(glob);
        } else if ((added = malloc(2 * strlen(prefix) + strlen(glob) + 1)) != NULL) {
            size_t size = glob_escape(prefix, strlen(prefix), added);
            strcpy(added + size, glob);
        }
        add_glob(scope, added);
    }
}

void rules_scope(const struct rules *rules, const char *topic, const char *tag_prefix,
                 void (*emit)(void *arg, const char *glob), void *arg)
{
    struct scope scope = {.globs = NULL};
    for (size_t i = 0; i < rules->count; i++) {
        if (rule_listens(rules->items[i], topic))
            add_rule_globs(&scope, rules->items[i], tag_prefix);
    }
    if (scope.has_failed)
        emit(arg, "*");
    for (size_t i = 0; i < scope.count; i++) {
        if (!scope.has_failed)
            emit(arg, scope.globs[i]);
        free(scope.globs[i]);
    }
    free(scope.globs);
}
