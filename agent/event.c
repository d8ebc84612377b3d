#include "event.h"

#include <stdarg.h>
#include <stdio.h>

static int fail(struct event_error *ret_error, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(struct event_error *ret_error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(ret_error->text, sizeof ret_error->text, format, args);
    va_end(args);
    ret_error->rule = NULL;
    return -1;
}

/* CloudEvents 1.0, section "REQUIRED Attributes". */
static int check_envelope(const struct json_document *document, struct event_error *ret_error)
{
    static const struct {
        const char *name;
        size_t size;
    } required[] = {{"specversion", 11}, {"id", 2}, {"source", 6}, {"type", 4}};
    if (document->nodes[0].type != JSON_OBJECT)
        return fail(ret_error, "not a CloudEvent: the value is no JSON object");
    for (size_t i = 0; i < sizeof required / sizeof *required; i++) {
        uint32_t node = json_member(document, 0, required[i].name, required[i].size);
        if (!node || document->nodes[node].type != JSON_STRING || document->nodes[node].size == 0)
            return fail(ret_error, "not a CloudEvent: \"%s\" must be a non-empty string", required[i].name);
    }
    return 0;
}

int event_decode(enum event_format format, const struct event_source *source, struct json_document *document,
                 struct event *ret_event, struct event_error *ret_error)
{
    struct event event = {.source = source, .is_tombstone = !source->value};
    if (!event.is_tombstone && format != FORMAT_RAW) {
        struct json_error error;
        int status = json_parse(document, source->value, source->value_size, &error);
        if (status < 0) {
            fail(ret_error, "not JSON: %s, at byte %u", error.text, error.offset);
            return status == JSON_NO_MEMORY ? EVENT_NO_MEMORY : -1;
        }
        if (format == FORMAT_CLOUDEVENTS && check_envelope(document, ret_error) < 0)
            return -1;
        event.has_document = true;
        event.document = document;
    }
    *ret_event = event;
    return 0;
}
