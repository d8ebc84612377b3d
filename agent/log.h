/* log: one structured line an incident on stderr, as key=value or JSON. Any thread. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

struct log_field {
    const char *name;
    const char *text; /* NULL: the number counts */
    int64_t number;
};

static inline struct log_field log_text(const char *name, const char *text)
{
    return (struct log_field){name, text ? text : "", 0};
}

static inline struct log_field log_number(const char *name, int64_t number)
{
    return (struct log_field){name, 0, number};
}

/* Lets one line a second of its call site pass and counts the others. */
struct log_limit {
    _Atomic int64_t next_ms;
    _Atomic uint64_t suppressed;
};

/** Set once, before the first thread starts. */
void log_setup(enum log_level level, bool is_json);
/** @param fields ends with a field without a name @param limit NULL: never limited */
void log_write(enum log_level level, const char *what, const struct log_field *fields,
               struct log_limit *limit);

/* log_line(LOG_INFO, "redis connected", log_text("server", url), log_number("session", 3)) */
#define log_line(level, what, ...) log_write(level, what, (struct log_field[]){__VA_ARGS__, {0, 0, 0}}, 0)
#define log_limited(level, what, ...)                                                                        \
    do {                                                                                                     \
        static struct log_limit limit_;                                                                      \
        log_write(level, what, (struct log_field[]){__VA_ARGS__, {0, 0, 0}}, &limit_);                       \
    } while (0)
