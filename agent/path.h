/* path: where in an event a value stands: row.id, items[0].id, labels[*], data['a.b'], @key, @topic,
 * @header.name. Compiled once, then read-only. Pure. The grammar is described in schemas/rules.md. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event.h"

#define PATH_STEPS_MAX                                                                                       \
    32 /* one document is at most JSON_DEPTH_MAX deep; nobody writes half of it into a path */
#define PATH_SIZE_MAX 1024 /* bytes of its text */

enum path_root { PATH_DOCUMENT, PATH_KEY, PATH_TOPIC, PATH_HEADER };
enum path_step_kind { STEP_MEMBER, STEP_INDEX, STEP_ALL };

struct path_step {
    enum path_step_kind kind;
    uint32_t index;   /* STEP_INDEX */
    const char *name; /* STEP_MEMBER, into path->names */
    uint32_t name_size;
};

struct path {
    char *text; /* as written */
    enum path_root root;
    char *header; /* PATH_HEADER: its name */
    struct path_step *steps;
    size_t steps_count;
    char *names;
    bool has_fan_out; /* a step is [*] */
};

/* A value that a path led to. Missing values are JSON_NULL. */
struct path_value {
    enum json_type type;
    bool has_escapes;
    uint32_t node; /* in the document, where it has escapes */
    const char *text;
    size_t size;
};

struct path_values {
    struct path_value *items;
    size_t count, capacity;
};

struct path_error {
    size_t offset;    /* in the text, of what is wrong */
    const char *text; /* a constant; NULL: out of memory */
};

/** Compiles text up to its first `stop` outside quotes ('\0': all of it).
 * @param ret_size bytes read, without the stop
 * @return 0 or -1 with *ret_error */
int path_compile(const char *text, char stop, struct path *ret_path, size_t *ret_size,
                 struct path_error *ret_error) __attribute__((warn_unused_result));
void path_deinit(struct path *path);

/** Appends every value the path leads to: one without [*]; with it as many as the arrays have elements, and a
 * JSON_NULL where something on the way is missing.
 * @return 0 or -1: out of memory */
int path_resolve(const struct path *path, const struct event *event, struct path_values *values)
    __attribute__((warn_unused_result));
