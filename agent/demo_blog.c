#include "demo_blog.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POSTS     500 /* at the beginning */
#define POSTS_MAX 520 /* what the services ask for */
#define AUTHORS   20
#define LABELS    10

/* Of a hundred events so many ... */
#define CHANGES 45
#define NEW     2
#define RENAMES 1
#define COLOURS 2
/* ... and the others tell of views: no rule matches them. */

static const char *const labels[LABELS] = {"c",    "redis", "kafka", "cache", "linux",
                                           "news", "howto", "talk",  "bench", "misc"};

static const char schema[] =
    "PRAGMA journal_mode = WAL;" /* readers do not wait for the writer */
    "PRAGMA synchronous = OFF;"
    "CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT NOT NULL);"
    "CREATE TABLE post (id INTEGER PRIMARY KEY, author_id INTEGER NOT NULL, title TEXT NOT NULL, body TEXT "
    "NOT NULL);"
    "CREATE INDEX post_of_author ON post (author_id, id);"
    "CREATE TABLE post_label (label TEXT, post_id INTEGER, PRIMARY KEY (label, post_id)) WITHOUT ROWID;"
    "CREATE TABLE label (name TEXT PRIMARY KEY, colour INTEGER NOT NULL);"
    /* what changed and when (monotonic clock): a post, an author's or a label's posts */
    "CREATE TABLE change (subject TEXT, version INTEGER, changed_ms INTEGER, PRIMARY KEY (subject, version))"
    " WITHOUT ROWID;";

enum statement {
    BEGIN,
    COMMIT,
    ROLLBACK,
    PUT_AUTHOR,
    PUT_POST,
    EDIT_POST,
    PUT_POST_LABEL,
    PUT_LABEL,
    NOTE,
    STATEMENTS
};

static const char *const sql[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [PUT_AUTHOR] = "INSERT OR REPLACE INTO author VALUES (?1, 'Author ' || ?1 || ', name ' || ?2)",
    [PUT_POST] =
        "INSERT INTO post VALUES (?1, ?2, 'Post ' || ?1, 'What there is to say in post ' || ?1 || '.')",
    [EDIT_POST] = "UPDATE post SET title = 'Post ' || ?1 || ', edition ' || ?2 WHERE id = ?1",
    [PUT_POST_LABEL] = "INSERT OR IGNORE INTO post_label VALUES (?1, ?2)",
    [PUT_LABEL] = "INSERT OR REPLACE INTO label VALUES (?1, ?2)",
    [NOTE] = "INSERT INTO change VALUES (?1, ?2, ?3)",
};

struct blog {
    sqlite3 *database;
    sqlite3_stmt *statement[STATEMENTS];
    int posts;         /* that there are, ids from 1 */
    long long version; /* of the last change */
};

static long long monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* A post's author and its two labels never change; the two may be the same. */
static int author_of(int post)
{
    return post % AUTHORS + 1;
}

static const char *label_of(int post, int i)
{
    return labels[(i ? post / 7 : post) % LABELS];
}

/* --- statements: 0, or -1 and the text is sqlite3_errmsg's --- */

static int run(struct blog *blog, enum statement statement)
{
    int status = sqlite3_step(blog->statement[statement]);
    sqlite3_reset(blog->statement[statement]);
    return status == SQLITE_DONE || status == SQLITE_ROW ? 0 : -1;
}

static int run_numbers(struct blog *blog, enum statement statement, long long first, long long second)
{
    sqlite3_bind_int64(blog->statement[statement], 1, first);
    sqlite3_bind_int64(blog->statement[statement], 2, second);
    return run(blog, statement);
}

static int run_text(struct blog *blog, enum statement statement, const char *text, long long number)
{
    sqlite3_bind_text(blog->statement[statement], 1, text, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(blog->statement[statement], 2, number);
    return run(blog, statement);
}

static int note(struct blog *blog, const char *subject)
{
    sqlite3_bind_int64(blog->statement[NOTE], 3, monotonic_ms());
    return run_text(blog, NOTE, subject, ++blog->version);
}

static int note_post(struct blog *blog, int post)
{
    char subject[32];
    snprintf(subject, sizeof subject, "post:%d", post);
    return note(blog, subject);
}

/* A post changed: so did its author's list and its labels' lists. */
static int note_post_and_lists(struct blog *blog, int post)
{
    char subject[32];
    snprintf(subject, sizeof subject, "author:%d:posts", author_of(post));
    if (note_post(blog, post) < 0 || note(blog, subject) < 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        snprintf(subject, sizeof subject, "label:%s", label_of(post, i));
        if (note(blog, subject) < 0)
            return -1;
    }
    return 0;
}

/* --- the first content --- */

static int put_post(struct blog *blog, int post)
{
    if (run_numbers(blog, PUT_POST, post, author_of(post)) < 0 ||
        run_text(blog, PUT_POST_LABEL, label_of(post, 0), post) < 0 ||
        run_text(blog, PUT_POST_LABEL, label_of(post, 1), post) < 0)
        return -1;
    blog->posts = post;
    return note_post_and_lists(blog, post);
}

static int fill(struct blog *blog)
{
    if (run(blog, BEGIN) < 0)
        return -1;
    for (int i = 1; i <= AUTHORS; i++) {
        if (run_numbers(blog, PUT_AUTHOR, i, 1) < 0)
            return -1;
    }
    for (int i = 0; i < LABELS; i++) {
        if (run_text(blog, PUT_LABEL, labels[i], 0) < 0)
            return -1;
    }
    for (int i = 1; i <= POSTS; i++) {
        if (put_post(blog, i) < 0)
            return -1;
    }
    return run(blog, COMMIT);
}

static int open_database(struct blog *blog, const char *path)
{
    if (sqlite3_open(path, &blog->database) != SQLITE_OK ||
        sqlite3_busy_timeout(blog->database, 5000) != SQLITE_OK ||
        sqlite3_exec(blog->database, schema, NULL, NULL, NULL) != SQLITE_OK)
        return -1;
    for (int i = 0; i < STATEMENTS; i++) {
        if (sqlite3_prepare_v2(blog->database, sql[i], -1, &blog->statement[i], NULL) != SQLITE_OK)
            return -1;
    }
    return fill(blog);
}

int blog_create(const char *path, struct blog **ret_blog, char *error, size_t error_size)
{
    struct blog *blog = calloc(1, sizeof *blog);
    if (!blog || open_database(blog, path) < 0) {
        snprintf(error, error_size, "%s: %s", path, blog ? sqlite3_errmsg(blog->database) : "out of memory");
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
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize((*blog)->statement[i]);
    sqlite3_close((*blog)->database);
    free(*blog);
    *blog = NULL;
}

/* --- changes --- */

static void say_post(int post, const char *op, struct blog_event *event)
{
    event->topic = "blog.posts";
    snprintf(event->key, sizeof event->key, "%d", post);
    snprintf(event->value, sizeof event->value,
             "{\"op\":\"%s\",\"row\":{\"id\":%d,\"author_id\":%d,\"labels\":[\"%s\",\"%s\"]}}", op, post,
             author_of(post), label_of(post, 0), label_of(post, 1));
}

static int edit_post(struct blog *blog, int post, struct blog_event *event)
{
    say_post(post, "u", event);
    return run_numbers(blog, EDIT_POST, post, blog->version + 1) < 0 ? -1 : note_post_and_lists(blog, post);
}

/* Until now the services knew that it does not exist. */
static int add_post(struct blog *blog, struct blog_event *event)
{
    int post = blog->posts + 1;
    say_post(post, "c", event);
    return put_post(blog, post);
}

/* Every post of the author shows the name. */
static int rename_author(struct blog *blog, int author, struct blog_event *event)
{
    event->topic = "blog.authors";
    snprintf(event->key, sizeof event->key, "%d", author);
    snprintf(event->value, sizeof event->value, "{\"op\":\"u\",\"row\":{\"id\":%d}}", author);
    if (run_numbers(blog, PUT_AUTHOR, author, blog->version + 1) < 0)
        return -1;
    for (int post = 1; post <= blog->posts; post++) {
        if (author_of(post) == author && note_post(blog, post) < 0)
            return -1;
    }
    return 0;
}

/* Every page of the label's posts shows the colour. */
static int colour_label(struct blog *blog, const char *label, unsigned colour, struct blog_event *event)
{
    char subject[32];
    event->topic = "blog.labels";
    snprintf(event->key, sizeof event->key, "%s", label);
    snprintf(event->value, sizeof event->value,
             "{\"op\":\"u\",\"row\":{\"name\":\"%s\",\"colour\":\"%06x\"}}", label, colour & 0xffffff);
    snprintf(subject, sizeof subject, "label:%s", label);
    return run_text(blog, PUT_LABEL, label, colour & 0xffffff) < 0 ? -1 : note(blog, subject);
}

static int change(struct blog *blog, unsigned random, struct blog_event *event)
{
    unsigned kind = random % 100, which = random / 100;
    int post = (int)(which % (unsigned)blog->posts) + 1;
    if (kind < CHANGES)
        return edit_post(blog, post, event);
    if (kind < CHANGES + NEW && blog->posts < POSTS_MAX)
        return add_post(blog, event);
    if (kind < CHANGES + NEW + RENAMES)
        return rename_author(blog, (int)(which % AUTHORS) + 1, event);
    if (kind < CHANGES + NEW + RENAMES + COLOURS)
        return colour_label(blog, labels[which % LABELS], which, event);
    say_post(post, "viewed", event);
    return 0;
}

int blog_change(struct blog *blog, unsigned random, struct blog_event *ret_event, char *error,
                size_t error_size)
{
    struct blog_event event;
    const long long version = blog->version;
    const int posts = blog->posts;
    if (run(blog, BEGIN) == 0) {
        if (change(blog, random, &event) == 0 && run(blog, COMMIT) == 0) {
            *ret_event = event; /* committed: only now may it be told */
            return 0;
        }
    }
    snprintf(error, error_size, "the blog's database: %s", sqlite3_errmsg(blog->database));
    (void)run(blog, ROLLBACK);
    blog->version = version;
    blog->posts = posts;
    return -1;
}
