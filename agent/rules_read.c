/* rules_read: rules = ( { name = ...; ... }, ... ) of a configuration file -> rules. */
#include <stdlib.h>
#include <string.h>

#include "config_read.h"
#include "nearest.h"

#define ITEMS_MAX 256 /* of one list in a rule: topics, keys, tags, conditions, constants */

#define ERROR_SIZE 512

static bool is_sequence(const config_setting_t *from)
{
    return config_setting_is_array(from) || config_setting_is_list(from);
}

static void unknown(struct problems *problems, const config_setting_t *from, const char *what,
                    const char *const *names)
{
    struct nearest nearest = {.distance = NEAREST_NONE};
    const char *name = config_setting_name(from);
    for (; *names; names++)
        nearest_try(&nearest, name, *names);
    if (nearest.name[0])
        problem(problems, from, "unknown name \"%s\" in %s; did you mean \"%s\"?", name, what, nearest.name);
    else
        problem(problems, from, "unknown name \"%s\" in %s; remove it", name, what);
}

static void check_names(struct problems *problems, const config_setting_t *group, const char *what,
                        const char *const *names)
{
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *from = config_setting_get_elem(group, (unsigned)i);
        const char *const *name = names;
        while (*name && strcmp(*name, config_setting_name(from)) != 0)
            name++;
        if (!*name)
            unknown(problems, from, what, names);
    }
}

/* --- when --- */

static bool read_constant(struct problems *problems, const config_setting_t *from,
                          struct constant *ret_constant)
{
    switch (config_setting_type(from)) {
    case CONFIG_TYPE_STRING:
        /* condition_compile copies it */
        *ret_constant =
            (struct constant){CONSTANT_TEXT, (char *)(uintptr_t)config_setting_get_string(from), 0};
        return true;
    case CONFIG_TYPE_INT:
        *ret_constant = (struct constant){CONSTANT_INTEGER, NULL, config_setting_get_int(from)};
        return true;
    case CONFIG_TYPE_INT64:
        *ret_constant = (struct constant){CONSTANT_INTEGER, NULL, config_setting_get_int64(from)};
        return true;
    case CONFIG_TYPE_BOOL:
        *ret_constant = (struct constant){CONSTANT_BOOLEAN, NULL, config_setting_get_bool(from)};
        return true;
    default:
        problem(problems, from,
                "a field is compared with a text, an integer, true or false; write one of these");
        return false;
    }
}

/* equals = constant, in = [ constants ] */
static bool read_constants(struct problems *problems, const config_setting_t *from, bool is_list,
                           struct constant constants[ITEMS_MAX], size_t *ret_count)
{
    int count = config_setting_length(from);
    if (!is_list) {
        *ret_count = 1;
        return read_constant(problems, from, &constants[0]);
    }
    if (!is_sequence(from) || count < 1 || count > ITEMS_MAX) {
        problem(problems, from, "\"in\" takes a list of 1 to %d constants; write [ \"a\", \"b\" ]",
                ITEMS_MAX);
        return false;
    }
    for (int i = 0; i < count; i++) {
        if (!read_constant(problems, config_setting_get_elem(from, (unsigned)i), &constants[i]))
            return false;
    }
    *ret_count = (size_t)count;
    return true;
}

static bool read_expected(struct problems *problems, const config_setting_t *from, bool *ret_expected)
{
    if (config_setting_type(from) != CONFIG_TYPE_BOOL) {
        problem(problems, from, "\"%s\" takes true or false; write it without quotes",
                config_setting_name(from));
        return false;
    }
    *ret_expected = config_setting_get_bool(from);
    return true;
}

static void read_field_condition(struct problems *problems, const config_setting_t *group, struct rule *rule)
{
    struct constant constants[ITEMS_MAX];
    char error[ERROR_SIZE];
    size_t count = 0;
    bool expected = true;
    const config_setting_t *field = config_setting_get_member(group, "field");
    const config_setting_t *equals = config_setting_get_member(group, "equals");
    const config_setting_t *in = config_setting_get_member(group, "in");
    const config_setting_t *exists = config_setting_get_member(group, "exists");
    if (!field || !config_setting_get_string(field)) {
        problem(problems, field ? field : group,
                "a condition lacks the text \"field\"; write field = \"path.to.it\"");
        return;
    }
    if (!!equals + !!in + !!exists != 1) {
        problem(problems, group, "a condition has one test; write exactly one of equals, in and exists");
        return;
    }
    if (exists ? !read_expected(problems, exists, &expected)
               : !read_constants(problems, equals ? equals : in, !equals, constants, &count))
        return;
    if (rule_add_condition(rule, exists ? CONDITION_EXISTS : CONDITION_ONE_OF,
                           config_setting_get_string(field), constants, count, expected, error,
                           sizeof error) < 0)
        problem(problems, field, "field \"%s\": %s", config_setting_get_string(field), error);
}

static void read_condition(struct problems *problems, const config_setting_t *group, struct rule *rule)
{
    static const char *const names[] = {"field", "equals", "in", "exists", "tombstone", NULL};
    char error[ERROR_SIZE];
    bool expected;
    if (!config_setting_is_group(group)) {
        problem(problems, group,
                "\"when\" takes a list of conditions; write ( { field = ...; equals = ...; } )");
        return;
    }
    check_names(problems, group, "a condition", names);
    const config_setting_t *tombstone = config_setting_get_member(group, "tombstone");
    if (!tombstone)
        read_field_condition(problems, group, rule);
    else if (config_setting_length(group) != 1)
        problem(problems, group, "\"tombstone\" stands alone; give the other test braces of its own");
    else if (read_expected(problems, tombstone, &expected) &&
             rule_add_tombstone(rule, expected, error, sizeof error) < 0)
        problem(problems, tombstone, "%s", error);
}

static void read_conditions(struct problems *problems, const config_setting_t *from, struct rule *rule)
{
    int count = config_setting_length(from);
    if (!config_setting_is_list(from) || count > ITEMS_MAX) {
        problem(problems, from,
                "\"when\" takes a list of at most %d conditions; write ( { field = ...; equals = ...; } )",
                ITEMS_MAX);
        return;
    }
    for (int i = 0; i < count; i++)
        read_condition(problems, config_setting_get_elem(from, (unsigned)i), rule);
}

/* --- the rule --- */

typedef int (*add_fn)(struct rule *rule, const char *text, char *error, size_t error_size);

static void read_texts(struct problems *problems, const config_setting_t *group, const char *name, add_fn add,
                       struct rule *rule)
{
    const config_setting_t *from = config_setting_get_member(group, name);
    if (!from)
        return;
    if (!is_sequence(from) || config_setting_length(from) < 1 || config_setting_length(from) > ITEMS_MAX) {
        problem(problems, from, "\"%s\" takes a list of 1 to %d texts; write [ \"...\" ]", name, ITEMS_MAX);
        return;
    }
    for (int i = 0; i < config_setting_length(from); i++) {
        char error[ERROR_SIZE];
        const config_setting_t *element = config_setting_get_elem(from, (unsigned)i);
        const char *text = config_setting_get_string(element);
        if (!text)
            problem(problems, element, "\"%s\" takes a list of texts; write each in quotes", name);
        else if (add(rule, text, error, sizeof error) < 0)
            problem(problems, element, "\"%s\": %s", name, error);
    }
}

static const char *read_name(struct problems *problems, const config_setting_t *group,
                             const struct rules *rules)
{
    const config_setting_t *from = config_setting_get_member(group, "name");
    const char *name = from ? config_setting_get_string(from) : NULL;
    if (!name)
        problem(problems, from ? from : group,
                "a rule lacks the text \"name\"; write name = \"what-it-is-for\"");
    else if (!settings_name_is_good(name))
        problem(problems, from, "\"%.80s\" cannot be a rule's name; use 1 to 64 of A-Z a-z 0-9 . _ : -",
                name);
    else if (rules_has(rules, name))
        problem(problems, from, "a second rule \"%s\"; give it another name, unique over all files", name);
    return name ? name : "(unnamed)";
}

static enum event_format read_format(struct problems *problems, const config_setting_t *group)
{
    static const struct {
        const char *name;
        enum event_format format;
    } formats[] = {{"json", FORMAT_JSON}, {"cloudevents", FORMAT_CLOUDEVENTS}, {"raw", FORMAT_RAW}};
    const config_setting_t *from = config_setting_get_member(group, "format");
    const char *name = from ? config_setting_get_string(from) : "json";
    for (size_t i = 0; name && i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, name) == 0)
            return formats[i].format;
    }
    problem(problems, from, "unknown format \"%s\"; write \"json\", \"cloudevents\" or \"raw\"",
            name ? name : "");
    return FORMAT_JSON;
}

static void read_rule(struct problems *problems, const config_setting_t *group, struct rules *rules)
{
    static const char *const names[] = {"name", "topics", "format", "when", "keys", "tags", NULL};
    char error[ERROR_SIZE];
    int problems_before = problems->count;
    check_names(problems, group, "a rule", names);
    const char *name = read_name(problems, group, rules);
    struct rule *rule = rules_add(rules, name, read_format(problems, group));
    if (!rule) {
        problem(problems, group, "out of memory; free some");
        return;
    }
    read_texts(problems, group, "topics", rule_add_topic, rule);
    const config_setting_t *when = config_setting_get_member(group, "when");
    if (when)
        read_conditions(problems, when, rule);
    read_texts(problems, group, "keys", rule_add_key, rule);
    read_texts(problems, group, "tags", rule_add_tag, rule);
    /* Only of a rule that is good in its parts: else it would complain about parts that were left out. */
    if (problems->count == problems_before && rule_check(rule, error, sizeof error) < 0)
        problem(problems, group, "%s", error);
}

void rules_read(const config_setting_t *list, struct rules *rules, struct problems *problems)
{
    for (int i = 0; i < config_setting_length(list); i++) {
        const config_setting_t *group = config_setting_get_elem(list, (unsigned)i);
        if (!config_setting_is_group(group)) {
            problem(problems, group, "a rule stands in braces; write ( { name = ...; ... } )");
        } else if (rules_count(rules) == RULES_MAX) {
            problem(problems, group, "more than %d rules; join some", RULES_MAX);
            return;
        } else {
            read_rule(problems, group, rules);
        }
    }
}
