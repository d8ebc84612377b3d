/* demo_blog: the demo's database, a small blog in SQLite, and the events that tell of its changes. The demo's
 * main thread. Each change is also written into the table "change", which the services hold their answers
 * against; see libcache/examples/blog_service.c. */
#pragma once

#include <stddef.h>

struct blog;

struct blog_event {
    const char *topic;
    char key[32];
    char value[512];
};

/** Makes the database file and fills it. @return 0, or -1 with a text in error */
int blog_create(const char *path, struct blog **ret_blog, char *error, size_t error_size)
    __attribute__((warn_unused_result));
void blog_destroy(struct blog **blog);

/** Changes something, commits it, and says as an event what happened. @param random chooses what
 * @return 0, or -1 with a text in error; the database is as before then */
int blog_change(struct blog *blog, unsigned random, struct blog_event *ret_event, char *error,
                size_t error_size) __attribute__((warn_unused_result));
