/* demo_blog: the demo's database, a small blog in SQLite, and the domain events of its changes. The demo's
 * main thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define BLOG_POSTS   500
#define BLOG_AUTHORS 20
#define BLOG_LABELS  10

struct blog;

/** Makes the database file and fills it. @return 0, or -1 with a text in error */
int blog_create(const char *path, struct blog **ret_blog, char *error, size_t error_size);
void blog_destroy(struct blog **blog);

struct blog_event {
    const char *topic;
    char key[32];
    char value[512];
};

/** Changes something at random, commits it, and says what happened as an event. @return 0, or -1 (SQLite's
 * error) */
int blog_change(struct blog *blog, unsigned random, struct blog_event *ret_event);
const char *blog_error(const struct blog *blog);
