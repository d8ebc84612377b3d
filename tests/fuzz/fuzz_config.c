/* Any text as evictd.conf with its rules in it. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "fuzz.h"

/* libconfig 1.5 loses its buffer after a syntax error. */
const char *__lsan_default_suppressions(void) __attribute__((visibility("default")));
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so\n";
}

static void require(bool holds) /* assert, in release builds too */
{
    if (!holds)
        abort();
}

static void ignore(void *arg, const char *glob)
{
    (void)arg;
    require(glob[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config = NULL;
    char *messages = NULL, *text = strndup((const char *)data, size);
    size_t messages_size;
    FILE *err = open_memstream(&messages, &messages_size);
    if (!err || !text)
        abort();
    int errors = config_load_text(text, err, &config);
    fclose(err);
    require((errors == 0) == (config != NULL));
    require((errors == 0) == (messages_size == 0));
    if (config) {
        for (size_t i = 0; i < rules_topics_count(config->rules); i++) {
            rules_topic(config->rules, rules_topics_get(config->rules, i));
            rules_scope(config->rules, rules_topics_get(config->rules, i), config->tag_prefix, ignore, NULL);
        }
    }
    config_unload(&config);
    free(messages);
    free(text);
    return 0;
}
