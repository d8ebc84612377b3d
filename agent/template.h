/* template: "post:${row.id}" -> names of keys or tags. Literal text and ${paths}; $$ is a dollar sign. A path
 * with [*] yields one name an element; several multiply. Compiled once, then read-only. Pure. */
#pragma once

#include <stddef.h>

#include "path.h"

#define TEMPLATE_SIZE_MAX  4096u  /* bytes of its text */
#define TEMPLATE_PARTS_MAX 32     /* literals and paths */
#define NAME_SIZE_MAX      65535u /* bytes of one key or tag: what libcache and the scripts take */
#define OUTPUT_BYTES_MAX                                                                                     \
    (16u << 20) /* of all names of one event: a long field times a long array stays bounded */

struct template;

/* A name: bytes of output->bytes. */
struct template_name {
    size_t start, size;
};

/* What templates wrote for one event. Its memory is kept from event to event. */
struct template_output {
    struct template_name *names;
    size_t names_count, names_capacity;
    char *bytes;
    size_t bytes_count, bytes_capacity;
    struct path_values values; /* working memory */
};

void template_output_clear(struct template_output *output);
void template_output_deinit(struct template_output *output);

/** @param error receives "column N: what; remedy" (columns count bytes from 1)
 * @return 0 or -1 */
int template_compile(const char *text, struct template **ret_template, char *error, size_t error_size)
    __attribute__((warn_unused_result));
void template_destroy(struct template **template);
const char *template_text(const struct template *template);

/** The first of its paths that looks into the event's value, or NULL when none does. */
const char *template_document_path(const struct template *template);

/** Appends the names that the template yields for an event; an empty array under [*] yields none. On failure
 * the output may hold a part of them.
 * @param names_max of output->names_count
 * @return 0, -1 with *ret_error (a value missing, null or no scalar; too many names; a name empty or too
 * long), or EVENT_NO_MEMORY with *ret_error */
int template_expand(const struct template *template, const struct event *event, size_t names_max,
                    struct template_output *output, struct event_error *ret_error)
    __attribute__((warn_unused_result));

/** A glob over Redis names that covers every name it can yield. @return to be freed; NULL: out of memory */
char *template_glob(const struct template *template);
