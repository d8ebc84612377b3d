#include "log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE_MAX 2048
#define LIMIT_MS      1000

static const char *const level_names[] = {"error", "warning", "info", "debug"};
static enum log_level log_level = LOG_INFO;
static bool log_is_json;

struct line {
    char text[LINE_SIZE_MAX];
    size_t size;
};

void log_setup(enum log_level level, bool is_json)
{
    log_level = level;
    log_is_json = is_json;
}

static void put(struct line *line, const char *text, size_t size)
{
    size_t room = sizeof line->text - 8 - line->size; /* keeps room for the end of the line */
    size = size < room ? size : room;
    memcpy(line->text + line->size, text, size);
    line->size += size;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* A quoted string in which nothing can end the line or forge a field: what comes from events is hostile. */
static void put_quoted(struct line *line, const char *text)
{
    put(line, "\"", 1);
    for (const char *c = text; *c; c++) {
        char escape[8];
        if (*c == '"' || *c == '\\') {
            escape[0] = '\\';
            escape[1] = *c;
            put(line, escape, 2);
        } else if ((unsigned char)*c < 0x20 || (unsigned char)*c == 0x7f) {
            put(line, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned char)*c));
        } else {
            put(line, c, 1);
        }
    }
    put(line, "\"", 1);
}

static void put_name(struct line *line, const char *name)
{
    put_text(line, log_is_json ? ",\"" : " ");
    put_text(line, name);
    put_text(line, log_is_json ? "\":" : "=");
}

static void put_field(struct line *line, const struct log_field *field)
{
    char number[24];
    put_name(line, field->name);
    if (!field->text)
        put(line, number, (size_t)snprintf(number, sizeof number, "%lld", (long long)field->number));
    else if (log_is_json || field->text[0] == '\0' || strpbrk(field->text, " \"\\=\t\r\n") ||
             strlen(field->text) > 200)
        put_quoted(line, field->text);
    else
        put_text(line, field->text);
}

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* May this line pass, and how many did not since the last one? */
static bool passes(struct log_limit *limit, uint64_t *ret_suppressed)
{
    int64_t now = monotonic_ms();
    int64_t next = atomic_load_explicit(&limit->next_ms, memory_order_relaxed);
    if (now < next || !atomic_compare_exchange_strong_explicit(&limit->next_ms, &next, now + LIMIT_MS,
                                                               memory_order_relaxed, memory_order_relaxed)) {
        atomic_fetch_add_explicit(&limit->suppressed, 1, memory_order_relaxed);
        return false;
    }
    *ret_suppressed = atomic_exchange_explicit(&limit->suppressed, 0, memory_order_relaxed);
    return true;
}

void log_write(enum log_level level, const char *what, const struct log_field *fields,
               struct log_limit *limit)
{
    uint64_t suppressed = 0;
    if (level > log_level || (limit && !passes(limit, &suppressed)))
        return;
    struct line line = {.size = 0};
    struct timespec now;
    struct tm utc;
    char time_text[40];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(time_text, sizeof time_text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(time_text + n, sizeof time_text - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
    put_text(&line, log_is_json ? "{\"time\":\"" : "time=");
    put_text(&line, time_text);
    put_text(&line, log_is_json ? "\",\"level\":\"" : " level=");
    put_text(&line, level_names[level]);
    put_text(&line, log_is_json ? "\",\"what\":" : " what=");
    put_quoted(&line, what);
    for (; fields->name; fields++)
        put_field(&line, fields);
    if (suppressed) {
        struct log_field field = log_number("suppressed", (int64_t)suppressed);
        put_field(&line, &field);
    }
    if (line.size >= sizeof line.text - 8 && log_is_json)
        line.text[line.size++] = '"'; /* the line was cut within a string */
    put(&line, "", 0);
    if (log_is_json)
        line.text[line.size++] = '}';
    line.text[line.size++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line.text, line.size); /* one write, so that threads do not mix */
    (void)ignored;
}
