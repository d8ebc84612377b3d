/* Any bytes as an event's value, through rules of every format: decode, conditions, templates, all or
 * nothing. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "fuzz.h"
#include "rules.h"

static void require(bool holds) /* assert, in release builds too */
{
    if (!holds)
        abort();
}

static const char *const text =
    "max_fan_out = 50;"
    "rules = ("
    "{ name = \"post\"; topics = [ \"json\" ]; when = ( { field = \"op\"; in = ( \"c\", \"u\", 1, true ); } "
    ");"
    "  keys = [ \"post:${row.id}\" ]; tags = [ \"author:${row.author_id}\", \"label:${row.labels[*]}\" ]; },"
    "{ name = \"any\"; topics = [ \"json\", \"both\" ]; when = ( { field = \"[*]\"; exists = true; } );"
    "  keys = [ \"${[0]}\", \"${[*][*]}:${[*]['a']}\" ]; },"
    "{ name = \"not\"; topics = [ \"json\" ]; when = ( { field = \"a.b\"; exists = false; }, { field = "
    "\"id\"; equals = 17; } );"
    "  keys = [ \"${@key}:${id}\" ]; },"
    "{ name = \"order\"; topics = [ \"both\", \"events\" ]; format = \"cloudevents\";"
    "  when = ( { field = \"type\"; equals = \"com.example.order.placed\"; } );"
    "  tags = [ \"item:${data.items[*].sku}\", \"${data.items[1]['display name']}\" ]; },"
    "{ name = \"raw\"; topics = [ \"both\" ]; format = \"raw\"; keys = [ \"k:${@key}\", \"${@header.h}\" ]; "
    "},"
    "{ name = \"gone\"; topics = [ \"both\" ]; when = ( { tombstone = true; } ); keys = [ \"${@key}\" ]; }"
    ");";

static size_t names;

static int count(void *arg, const struct rule *rule, const char *name, size_t size)
{
    volatile char last = name[size - 1]; /* all of it can be read */
    (void)arg, (void)rule, (void)last;
    require(size > 0 && size <= 65535);
    names++;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config *config;
    static struct rules_scratch *scratch;
    static const char *const topics[] = {"json", "both", "events"};
    const struct rules_sink sink = {.key = count, .tag = count};
    if (!config) {
        if (config_load_text(text, stderr, &config) != 0 || !(scratch = rules_scratch_create()))
            abort();
    }
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
        const struct event_header header = {"h", data, size};
        struct event_source source = {.topic = topics[i],
                                      .key = data,
                                      .key_size = size / 2,
                                      .value = data,
                                      .value_size = size,
                                      .headers = &header,
                                      .headers_count = 1};
        struct event_error error = {.text = ""};
        size_t matched = 0;
        names = 0;
        int status =
            rules_apply(rules_topic(config->rules, topics[i]), &source, scratch, &sink, &matched, &error);
        require(status == 0 || (names == 0 && error.text[0] && error.rule));
        require(names <= 50);
    }
    return 0;
}
