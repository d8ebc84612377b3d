/* settings: the table of all settings; parsing, defaults, checks and the reference come from it. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "config_read.h"
#include "kafka_properties.h"
#include "log.h"
#include "nearest.h"
#include "redis_url.h"

#define PROPERTIES_MAX 256 /* librdkafka has about 160 */
#define PATH_MAX_SIZE  128 /* of a setting's dotted name, in messages */

enum setting_type {
    SETTING_TEXT,
    SETTING_INTEGER,
    SETTING_BOOLEAN,
    SETTING_CHOICE,
    SETTING_PROPERTIES,
    SETTING_RULES
};

/* @param error receives "what; remedy" @return 0 or -1 */
typedef int (*check_fn)(const char *text, char *error, size_t error_size);

struct setting {
    const char *name; /* group.name */
    enum setting_type type;
    size_t offset; /* in struct config */
    const char *default_text;
    int64_t default_number; /* a choice's index too */
    int64_t min, max;
    const char *choices[5];
    check_fn check;
    const char *meaning;
};

static int check_name(const char *text, char *error, size_t error_size)
{
    if (settings_name_is_good(text))
        return 0;
    snprintf(error, error_size,
             "\"%.80s\" cannot be part of a Redis name; use 1 to 64 of A-Z a-z 0-9 . _ : -", text);
    return -1;
}

static int check_filled(const char *text, char *error, size_t error_size)
{
    if (*text && strlen(text) <= 4096)
        return 0;
    snprintf(error, error_size, "it is %s; give 1 to 4096 bytes", *text ? "too long" : "empty");
    return -1;
}

static int check_group(const char *text, char *error, size_t error_size)
{
    if (*text && strlen(text) <= 255)
        return 0;
    snprintf(error, error_size, "a consumer group's name has 1 to 255 bytes; choose another");
    return -1;
}

static int check_topic(const char *text, char *error, size_t error_size)
{
    size_t size = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    if (size > 0 && size <= 249 && text[size] == '\0' && strcmp(text, ".") != 0 && strcmp(text, "..") != 0)
        return 0;
    snprintf(error, error_size, "\"%.80s\" cannot be a topic; use 1 to 249 of A-Z a-z 0-9 . _ -", text);
    return -1;
}

static int check_url(const char *text, char *error, size_t error_size)
{
    struct redis_url url;
    return redis_url_parse(text, &url, error, error_size);
}

#define AT(field) offsetof(struct config, field)

/* clang-format off */
static const struct setting settings[] = {
    {.name = "namespace", .type = SETTING_TEXT, .offset = AT(namespace_name), .default_text = "main",
     .check = check_name, .meaning = "Separates installations that share a Redis: part of the names of head, log and channel."},
    {.name = "tag_prefix", .type = SETTING_TEXT, .offset = AT(tag_prefix), .default_text = "tag:", .check = check_name,
     .meaning = "A tag's set in Redis is called by this and the tag."},
    {.name = "lease_prefix", .type = SETTING_TEXT, .offset = AT(lease_prefix), .default_text = "lease:",
     .check = check_name, .meaning = "A key's lease in Redis is called by this and the key in braces."},
    {.name = "kafka.brokers", .type = SETTING_TEXT, .offset = AT(kafka.brokers), .default_text = "localhost:9092",
     .check = check_filled, .meaning = "Brokers to begin with, `host:port` separated by commas."},
    {.name = "kafka.group", .type = SETTING_TEXT, .offset = AT(kafka.group), .default_text = "evictd",
     .check = check_group, .meaning = "Consumer group. All agents of one namespace share one."},
    {.name = "kafka.start", .type = SETTING_CHOICE, .offset = AT(kafka.start), .default_number = START_EARLIEST,
     .choices = {[START_EARLIEST] = "earliest", [START_LATEST] = "latest"},
     .meaning = "Where a group without committed offsets begins."},
    {.name = "kafka.properties", .type = SETTING_PROPERTIES,
     .meaning = "Any librdkafka property as `\"name=value\"`, but for those that evictd must own."},
    {.name = "redis.url", .type = SETTING_TEXT, .offset = AT(redis.url), .default_text = "redis://localhost:6379/0",
     .check = check_url,
     .meaning = "`redis://[[user]:password@]host[:port][/db]` or `unix:///path[?db=n]`."},
    {.name = "redis.log_length", .type = SETTING_INTEGER, .offset = AT(redis.log_length), .default_number = 4096,
     .min = 16, .max = 1000000, .meaning = "Broadcasts kept for replay to subscribers that missed some."},
    {.name = "dead_letter.topic", .type = SETTING_TEXT, .offset = AT(dead_letter.topic),
     .default_text = "evictd.dead-letters", .check = check_topic, .meaning = "Topic of events that cannot be handled."},
    {.name = "dead_letter.policy", .type = SETTING_CHOICE, .offset = AT(dead_letter.policy),
     .default_number = DEAD_LETTER_SEND,
     .choices = {[DEAD_LETTER_SEND] = "dead-letter", [DEAD_LETTER_SKIP] = "skip", [DEAD_LETTER_STOP] = "stop"},
     .meaning = "What becomes of an event that cannot be handled: sent to the topic, logged and skipped, or evictd stops."},
    {.name = "log.level", .type = SETTING_CHOICE, .offset = AT(log.level), .default_number = LOG_INFO,
     .choices = {[LOG_ERROR] = "error", [LOG_WARNING] = "warning", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"},
     .meaning = "The least grave lines that are logged."},
    {.name = "log.format", .type = SETTING_CHOICE, .offset = AT(log.json), .default_number = 0,
     .choices = {"keyvalue", "json"}, .meaning = "How log lines are written."},
    {.name = "max_fan_out", .type = SETTING_INTEGER, .offset = AT(max_fan_out), .default_number = 10000, .min = 1,
     .max = 1000000, .meaning = "Keys and tags that one event may evict; more make it a bad event."},
    {.name = "trace", .type = SETTING_BOOLEAN, .offset = AT(trace),
     .meaning = "Broadcasts carry their `cause`: topic, partition, offset and rule."},
    {.name = "members", .type = SETTING_BOOLEAN, .offset = AT(members),
     .meaning = "Broadcasts carry the deleted members of tags as keys, for subscribers without a tag index."},
    {.name = "rules", .type = SETTING_RULES,
     .meaning = "`[ \"rules.d/*.conf\" ]`: rules files, relative to this file; or the rules themselves, `( { ... } )`. "
                "Needed; the language is described in rules.md."},
};
/* clang-format on */

#define SETTINGS_COUNT (sizeof settings / sizeof *settings)

bool settings_name_is_good(const char *name)
{
    size_t size = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-");
    return size > 0 && size <= 64 && name[size] == '\0';
}

static void *field(struct config *config, const struct setting *setting)
{
    return (char *)config + setting->offset;
}

static int set_text(struct config *config, const struct setting *setting, const char *text)
{
    char **target = field(config, setting);
    char *copy = strdup(text);
    if (!copy)
        return -1;
    free(*target);
    *target = copy;
    return 0;
}

static void set_number(struct config *config, const struct setting *setting, int64_t number)
{
    int as_int = (int)number; /* enums are ints here, too */
    if (setting->type == SETTING_INTEGER)
        memcpy(field(config, setting), &number, sizeof number);
    else
        memcpy(field(config, setting), &as_int, sizeof as_int);
}

int settings_set_defaults(struct config *config)
{
    for (const struct setting *s = settings; s < settings + SETTINGS_COUNT; s++) {
        if (s->type == SETTING_TEXT && set_text(config, s, s->default_text) < 0)
            return -1;
        if (s->type == SETTING_INTEGER || s->type == SETTING_BOOLEAN || s->type == SETTING_CHOICE)
            set_number(config, s, s->default_number);
    }
    return 0;
}

void settings_free(struct config *config)
{
    for (const struct setting *s = settings; s < settings + SETTINGS_COUNT; s++) {
        if (s->type == SETTING_TEXT)
            free(*(char **)field(config, s));
    }
    for (size_t i = 0; i < config->kafka.properties_count; i++)
        free(config->kafka.properties[i]);
    free(config->kafka.properties);
}

/* --- reading one setting of each type --- */

static void read_text(const struct setting *s, const config_setting_t *from, struct config *config,
                      struct problems *problems)
{
    char error[512];
    const char *text = config_setting_get_string(from);
    if (!text)
        problem(problems, from, "\"%s\" takes a text; write it in quotes, like \"%s\"", s->name,
                s->default_text);
    else if (s->check && s->check(text, error, sizeof error) < 0)
        problem(problems, from, "\"%s\": %s", s->name, error);
    else if (set_text(config, s, text) < 0)
        problem(problems, from, "out of memory; free some");
}

static void read_integer(const struct setting *s, const config_setting_t *from, struct config *config,
                         struct problems *problems)
{
    int type = config_setting_type(from);
    int64_t number = type == CONFIG_TYPE_INT ? config_setting_get_int(from) : config_setting_get_int64(from);
    if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
        problem(problems, from, "\"%s\" takes an integer; the default is %lld", s->name,
                (long long)s->default_number);
    else if (number < s->min || number > s->max)
        problem(problems, from, "\"%s\" is %lld; choose %lld to %lld", s->name, (long long)number,
                (long long)s->min, (long long)s->max);
    else
        set_number(config, s, number);
}

static void read_boolean(const struct setting *s, const config_setting_t *from, struct config *config,
                         struct problems *problems)
{
    if (config_setting_type(from) != CONFIG_TYPE_BOOL)
        problem(problems, from, "\"%s\" takes true or false; write it without quotes", s->name);
    else
        set_number(config, s, config_setting_get_bool(from));
}

static void list_choices(const struct setting *s, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; s->choices[i] && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s\"%s\"",
                                 i == 0              ? ""
                                 : s->choices[i + 1] ? ", "
                                                     : " or ",
                                 s->choices[i]);
}

static void read_choice(const struct setting *s, const config_setting_t *from, struct config *config,
                        struct problems *problems)
{
    char choices[128];
    const char *text = config_setting_get_string(from);
    for (int i = 0; text && s->choices[i]; i++) {
        if (strcmp(text, s->choices[i]) == 0) {
            set_number(config, s, i);
            return;
        }
    }
    list_choices(s, choices, sizeof choices);
    if (text)
        problem(problems, from, "\"%s\" cannot be \"%s\"; write %s", s->name, text, choices);
    else
        problem(problems, from, "\"%s\" takes a text; write %s", s->name, choices);
}

static void read_properties(const struct setting *s, const config_setting_t *from, struct config *config,
                            struct problems *problems)
{
    int count = config_setting_length(from);
    if (!config_setting_is_array(from) && !config_setting_is_list(from)) {
        problem(problems, from, "\"%s\" takes a list of texts; write [ \"name=value\" ]", s->name);
        return;
    }
    if (count > PROPERTIES_MAX) {
        problem(problems, from, "\"%s\" has more than %d entries; remove some", s->name, PROPERTIES_MAX);
        return;
    }
    config->kafka.properties = calloc((size_t)count + 1, sizeof *config->kafka.properties);
    for (int i = 0; config->kafka.properties && i < count; i++) {
        char error[512];
        const config_setting_t *element = config_setting_get_elem(from, (unsigned)i);
        const char *property = config_setting_get_string(element);
        if (!property)
            problem(problems, element, "\"%s\" takes a list of texts; write [ \"name=value\" ]", s->name);
        else if (kafka_property_check(property, error, sizeof error) < 0)
            problem(problems, element, "\"%s\": %s", s->name, error);
        else if ((config->kafka.properties[config->kafka.properties_count] = strdup(property)))
            config->kafka.properties_count++;
        else
            problem(problems, element, "out of memory; free some");
    }
    if (!config->kafka.properties)
        problem(problems, from, "out of memory; free some");
}

static void read_setting(const struct setting *s, const config_setting_t *from, struct config *config,
                         struct problems *problems)
{
    switch (s->type) {
    case SETTING_TEXT:
        read_text(s, from, config, problems);
        break;
    case SETTING_INTEGER:
        read_integer(s, from, config, problems);
        break;
    case SETTING_BOOLEAN:
        read_boolean(s, from, config, problems);
        break;
    case SETTING_CHOICE:
        read_choice(s, from, config, problems);
        break;
    case SETTING_PROPERTIES:
        read_properties(s, from, config, problems);
        break;
    case SETTING_RULES: /* config.c reads them: they may be files */
        break;
    }
}

/* --- reading all --- */

static const struct setting *find(const char *name)
{
    for (const struct setting *s = settings; s < settings + SETTINGS_COUNT; s++) {
        if (strcmp(s->name, name) == 0)
            return s;
    }
    return NULL;
}

static bool is_group_name(const char *name)
{
    size_t size = strlen(name);
    for (const struct setting *s = settings; s < settings + SETTINGS_COUNT; s++) {
        if (strncmp(s->name, name, size) == 0 && s->name[size] == '.')
            return true;
    }
    return false;
}

static void unknown(const config_setting_t *from, const char *name, struct problems *problems)
{
    struct nearest nearest = {.distance = NEAREST_NONE};
    for (const struct setting *s = settings; s < settings + SETTINGS_COUNT; s++) {
        char group[PATH_MAX_SIZE];
        snprintf(group, sizeof group, "%.*s", (int)strcspn(s->name, "."), s->name);
        nearest_try(&nearest, name, s->name);
        nearest_try(&nearest, name, group);
    }
    if (nearest.name[0])
        problem(problems, from, "unknown setting \"%s\"; did you mean \"%s\"?", name, nearest.name);
    else
        problem(problems, from, "unknown setting \"%s\"; remove it", name);
}

/* Groups go one level deep: the names in the table have one dot at most. */
static void read_group(const config_setting_t *group, const char *prefix, struct config *config,
                       struct problems *problems)
{
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *from = config_setting_get_elem(group, (unsigned)i);
        char name[PATH_MAX_SIZE];
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", config_setting_name(from));
        const struct setting *s = find(name);
        if (s)
            read_setting(s, from, config, problems);
        else if (!is_group_name(name))
            unknown(from, name, problems);
        else if (!config_setting_is_group(from))
            problem(problems, from, "\"%s\" is a group of settings; write %s = { ... };", name, name);
        else
            read_group(from, name, config, problems);
    }
}

void settings_read(const config_setting_t *root, struct config *config, struct problems *problems)
{
    read_group(root, "", config, problems);
}

/* --- reference --- */

static void print_type(const struct setting *s, FILE *out)
{
    char choices[128];
    list_choices(s, choices, sizeof choices);
    switch (s->type) {
    case SETTING_TEXT:
        fprintf(out, "text | `\"%s\"`", s->default_text);
        break;
    case SETTING_INTEGER:
        fprintf(out, "integer, %lld to %lld | `%lld`", (long long)s->min, (long long)s->max,
                (long long)s->default_number);
        break;
    case SETTING_BOOLEAN:
        fprintf(out, "true or false | `%s`", s->default_number ? "true" : "false");
        break;
    case SETTING_CHOICE:
        fprintf(out, "%s | `\"%s\"`", choices, s->choices[s->default_number]);
        break;
    case SETTING_PROPERTIES:
        fprintf(out, "list of texts | `[ ]`");
        break;
    case SETTING_RULES:
        fprintf(out, "list |");
        break;
    }
}

void config_print_reference(void *out)
{
    fprintf(out, "| setting | type | default | meaning |\n|---|---|---|---|\n");
    for (const struct setting *s = settings; s < settings + SETTINGS_COUNT; s++) {
        fprintf(out, "| `%s` | ", s->name);
        print_type(s, out);
        fprintf(out, " | %s |\n", s->meaning);
    }
}
