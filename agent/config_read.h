/* config_read: what the readers of configuration files share. At start, on the main thread. */
#pragma once

#include <libconfig.h>
#include <stdbool.h>
#include <stdio.h>

#include "config.h"

/* Where errors go while one configuration, of several files perhaps, is read. */
struct problems {
    FILE *err;        /* NULL: only counted */
    const char *file; /* being read */
    int count;
};

/** Reports "file:line: what; remedy". */
void problem(struct problems *problems, const config_setting_t *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void problem_at(struct problems *problems, unsigned line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* --- settings.c --- */

/** @return 0 or -1: out of memory */
int settings_set_defaults(struct config *config) __attribute__((warn_unused_result));
/** Reads every setting but rules. */
void settings_read(const config_setting_t *root, struct config *config, struct problems *problems);
void settings_free(struct config *config);

/** Is this 1 to 64 bytes of A-Z a-z 0-9 . _ : - ? What Redis names are built from, and rules are called. */
bool settings_name_is_good(const char *name);

/* --- rules_read.c --- */

/** Reads a list of rules, rules = ( { ... }, ... ). */
void rules_read(const config_setting_t *list, struct rules *rules, struct problems *problems);
