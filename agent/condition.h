/* condition: one entry of a rule's `when`: a test of one field. Compiled once, then read-only. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "path.h"

enum condition_kind { CONDITION_ONE_OF, CONDITION_EXISTS };

/* A constant of the rules file, compared by type and text: "1" is not 1. */
struct constant {
    enum { CONSTANT_TEXT, CONSTANT_INTEGER, CONSTANT_BOOLEAN } type;
    char *text;     /* CONSTANT_TEXT; condition_compile writes a CONSTANT_INTEGER's digits into its copy */
    int64_t number; /* CONSTANT_INTEGER, CONSTANT_BOOLEAN */
};

struct condition {
    enum condition_kind kind;
    struct path path;
    struct constant *constants; /* CONDITION_ONE_OF */
    size_t constants_count;
    bool expected; /* CONDITION_EXISTS */
};

/** @param constants copied @param error receives "column N: what"
 * @return 0 or -1 */
int condition_compile(enum condition_kind kind, const char *field, const struct constant *constants,
                      size_t count, bool expected, struct condition *ret_condition, char *error,
                      size_t error_size) __attribute__((warn_unused_result));
void condition_deinit(struct condition *condition);

/** @param values working memory @return 1: holds, 0: does not, EVENT_NO_MEMORY */
int condition_holds(const struct condition *condition, const struct event *event, struct path_values *values)
    __attribute__((warn_unused_result));
