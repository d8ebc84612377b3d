/* Any text as a template, expanded for an event that has something of everything. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "glob.h"
#include "template.h"

static void require(bool holds) /* assert, in release builds too */
{
    if (!holds)
        abort();
}

#define NAMES_MAX 200

static const char value[] =
    "{\"id\":17,\"s\":\"caf\\u00e9\",\"t\":true,\"n\":null,\"o\":{\"a.b\":1,\"\":2,\"it's\":3},"
    "\"l\":[1,\"b\",[2,3],{\"id\":4},[]],\"e\":[],\"labels\":[\"x\",\"y\",\"z\"]}";

/* Every name lies in the scope that a flush would clear. */
static void check_names(const struct template *template, const struct template_output *output)
{
    char *glob = template_glob(template);
    if (!glob)
        abort();
    require(output->names_count <= NAMES_MAX);
    for (size_t i = 0; i < output->names_count; i++) {
        const struct template_name *name = &output->names[i];
        require(name->size > 0 && name->size <= NAME_SIZE_MAX);
        require(glob_match(glob, strlen(glob), output->bytes + name->start, name->size));
    }
    free(glob);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct json_document document;
    static struct template_output output;
    const struct event_header header = {"h", "v", 1};
    const struct event_source source = {.topic = "t",
                                        .key = "k",
                                        .key_size = 1,
                                        .value = value,
                                        .value_size = sizeof value - 1,
                                        .headers = &header,
                                        .headers_count = 1};
    struct template *template = NULL;
    struct event event;
    struct event_error event_error = {.text = ""};
    char error[256] = "";
    char *text = strndup((const char *)data, size);
    if (!text || event_decode(FORMAT_JSON, &source, &document, &event, &event_error) < 0)
        abort();
    template_output_clear(&output);
    if (template_compile(text, &template, error, sizeof error) < 0) {
        require(strncmp(error, "column ", 7) == 0);
    } else {
        if (template_expand(template, &event, NAMES_MAX, &output, &event_error) == 0)
            check_names(template, &output);
        else
            require(event_error.text[0]);
    }
    template_destroy(&template);
    free(text);
    return 0;
}
