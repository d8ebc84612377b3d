#include "demo_blog.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct blog {
    sqlite3 *database;
    sqlite3_stmt *insert, *change;
    int author_of[BLOG_POSTS + 1], label_of[BLOG_POSTS + 1];
};

static const char *const labels[BLOG_LABELS] = {"c",    "redis", "kafka", "cache", "linux",
                                                "news", "howto", "talk",  "bench", "misc"};

static long long monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static int insert_page(struct blog *blog, const char *name, int author)
{
    char body[256];
    snprintf(body, sizeof body, "The page %s, as the database has it.", name);
    sqlite3_bind_text(blog->insert, 1, name, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(blog->insert, 2, monotonic_ms());
    sqlite3_bind_int(blog->insert, 3, author);
    sqlite3_bind_text(blog->insert, 4, body, -1, SQLITE_TRANSIENT);
    int status = sqlite3_step(blog->insert);
    sqlite3_reset(blog->insert);
    return status == SQLITE_DONE ? 0 : -1;
}

static int change_page(struct blog *blog, const char *name)
{
    sqlite3_bind_int64(blog->change, 1, monotonic_ms());
    sqlite3_bind_text(blog->change, 2, name, -1, SQLITE_TRANSIENT);
    int status = sqlite3_step(blog->change);
    sqlite3_reset(blog->change);
    return status == SQLITE_DONE ? 0 : -1;
}

static int run(struct blog *blog, const char *sql)
{
    return sqlite3_exec(blog->database, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : -1;
}

static int fill(struct blog *blog)
{
    char name[64];
    for (int i = 1; i <= BLOG_POSTS; i++) {
        blog->author_of[i] = i % BLOG_AUTHORS + 1;
        blog->label_of[i] = i % BLOG_LABELS;
        snprintf(name, sizeof name, "post:%d", i);
        if (insert_page(blog, name, blog->author_of[i]) < 0)
            return -1;
    }
    for (int i = 1; i <= BLOG_AUTHORS; i++) {
        snprintf(name, sizeof name, "author:%d:posts", i);
        if (insert_page(blog, name, i) < 0)
            return -1;
    }
    for (int i = 0; i < BLOG_LABELS; i++) {
        snprintf(name, sizeof name, "label:%s", labels[i]);
        if (insert_page(blog, name, 0) < 0)
            return -1;
    }
    return 0;
}

int blog_create(const char *path, struct blog **ret_blog, char *error, size_t error_size)
{
    struct blog *blog = calloc(1, sizeof *blog);
    if (!blog) {
        snprintf(error, error_size, "out of memory");
        return -1;
    }
    if (sqlite3_open(path, &blog->database) != SQLITE_OK ||
        sqlite3_busy_timeout(blog->database, 5000) != SQLITE_OK ||
        run(blog, "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"
                  "CREATE TABLE page (name TEXT PRIMARY KEY, version INTEGER, changed_ms INTEGER, author "
                  "INTEGER, body TEXT);"
                  "BEGIN") < 0 ||
        sqlite3_prepare_v2(blog->database, "INSERT INTO page VALUES (?, 1, ?, ?, ?)", -1, &blog->insert,
                           NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(blog->database,
                           "UPDATE page SET version = version + 1, changed_ms = ? WHERE name = ?", -1,
                           &blog->change, NULL) != SQLITE_OK ||
        fill(blog) < 0 || run(blog, "COMMIT") < 0) {
        snprintf(error, error_size, "%s: %s", path, sqlite3_errmsg(blog->database));
        blog_destroy(&blog);
        return -1;
    }
    *ret_blog = blog;
    return 0;
}

void blog_destroy(struct blog **blog)
{
    if (!blog || !*blog)
        return;
    sqlite3_finalize((*blog)->insert);
    sqlite3_finalize((*blog)->change);
    sqlite3_close((*blog)->database);
    free(*blog);
    *blog = NULL;
}

/* A post changes: its own page, its author's list and its label's list show it. */
static int change_post(struct blog *blog, unsigned random, struct blog_event *event)
{
    char name[64];
    int post = (int)(random % BLOG_POSTS) + 1, author = blog->author_of[post];
    const char *label = labels[blog->label_of[post]];
    snprintf(name, sizeof name, "post:%d", post);
    if (change_page(blog, name) < 0)
        return -1;
    snprintf(name, sizeof name, "author:%d:posts", author);
    if (change_page(blog, name) < 0)
        return -1;
    snprintf(name, sizeof name, "label:%s", label);
    if (change_page(blog, name) < 0)
        return -1;
    event->topic = "blog.posts";
    snprintf(event->key, sizeof event->key, "%d", post);
    snprintf(event->value, sizeof event->value,
             "{\"op\":\"u\",\"row\":{\"id\":%d,\"author_id\":%d,\"title\":\"Post %d, "
             "revised\",\"labels\":[\"%s\"]}}",
             post, author, post, label);
    return 0;
}

/* An author takes another name: every page that shows it changes. */
static int rename_author(struct blog *blog, unsigned random, struct blog_event *event)
{
    char name[64];
    int author = (int)(random % BLOG_AUTHORS) + 1;
    snprintf(name, sizeof name, "author:%d:posts", author);
    if (change_page(blog, name) < 0)
        return -1;
    for (int i = 1; i <= BLOG_POSTS; i++) {
        snprintf(name, sizeof name, "post:%d", i);
        if (blog->author_of[i] == author && change_page(blog, name) < 0)
            return -1;
    }
    event->topic = "blog.authors";
    snprintf(event->key, sizeof event->key, "%d", author);
    snprintf(event->value, sizeof event->value, "{\"op\":\"u\",\"row\":{\"id\":%d,\"name\":\"Author %u\"}}",
             author, random);
    return 0;
}

static int change_label(struct blog *blog, unsigned random, struct blog_event *event)
{
    char name[64];
    const char *label = labels[random % BLOG_LABELS];
    snprintf(name, sizeof name, "label:%s", label);
    if (change_page(blog, name) < 0)
        return -1;
    event->topic = "blog.labels";
    snprintf(event->key, sizeof event->key, "%s", label);
    snprintf(event->value, sizeof event->value,
             "{\"op\":\"u\",\"row\":{\"name\":\"%s\",\"colour\":\"%06x\"}}", label, random & 0xffffff);
    return 0;
}

/* Somebody only looked at a post: an event that no rule matches. */
static int view_post(unsigned random, struct blog_event *event)
{
    event->topic = "blog.posts";
    snprintf(event->key, sizeof event->key, "%u", random % BLOG_POSTS + 1);
    snprintf(event->value, sizeof event->value, "{\"op\":\"viewed\",\"row\":{\"id\":%u}}",
             random % BLOG_POSTS + 1);
    return 0;
}

int blog_change(struct blog *blog, unsigned random, struct blog_event *ret_event)
{
    unsigned kind = random % 100, more = random / 100;
    int status;
    if (run(blog, "BEGIN IMMEDIATE") < 0)
        return -1;
    if (kind < 60)
        status = change_post(blog, more, ret_event);
    else if (kind < 62)
        status = rename_author(blog, more, ret_event);
    else if (kind < 65)
        status = change_label(blog, more, ret_event);
    else
        status = view_post(more, ret_event);
    if (status < 0)
        (void)run(blog, "ROLLBACK");
    else
        status = run(blog, "COMMIT"); /* only then does the event leave */
    return status;
}

const char *blog_error(const struct blog *blog)
{
    return sqlite3_errmsg(blog->database);
}
