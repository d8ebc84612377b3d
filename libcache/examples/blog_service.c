/* blog_service: a small service that reads a blog through libcache. Read it from top to bottom; copy what you
 * need.
 *
 *   blog_service --redis URL --database FILE [--namespace NS] [--reads-per-s N] [--report-ms MS]
 *
 * Two threads ask for a post, a page of an author's posts or a page of a label's posts, popular ones more
 * often. SQLite is asked only where neither this process (L1) nor Redis (L2) has the answer. What is stored
 * carries tags: who changes a post, an author or a label evicts by them every page that shows it, and need
 * not know which pages there are.
 *
 * Every answer is checked: the database keeps a list of its changes, and an answer that misses one which is
 * older than STALE_AFTER_MS counts as stale. A line of counters goes to stdout every --report-ms, until stdin
 * is closed or SIGTERM comes. `evictd demo` runs two of these and makes their database; `evictd demo --keep`
 * prints how to run a third. */
#include <cache/cache.h>
#include <getopt.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS        2
#define POSTS          520 /* ids that are asked for; the last ones may not exist yet */
#define AUTHORS        20
#define PAGES          3    /* of a list, ten posts each */
#define STALE_AFTER_MS 1500 /* max_staleness_ms, and what an event may take on its way through Kafka */
#define NAP_MS         20

/* A database across the network, under load: SQLite alone would be too fast to show what a cache is good for.
 */
#define DATABASE_DELAY_MS 10

static const char *const labels[] = {"c",    "redis", "kafka", "cache", "linux",
                                     "news", "howto", "talk",  "bench", "misc"};

static cache *pages;
static const char *database_path;
static int reads_per_s = 500; /* of both threads */
static _Atomic bool is_stopping;
static _Atomic unsigned long reads, not_found, failures, stale;

static long long monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void pause_ms(long long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* --- the database: one connection a thread --- */

enum query { BEGIN, COMMIT, POST, AUTHOR_PAGE, LABEL_PAGE, VERSION, QUERIES };

static const char *const sql[QUERIES] = {
    [BEGIN] = "BEGIN",
    [COMMIT] = "COMMIT",
    [POST] = "SELECT post.author_id, post.title || ', by ' || author.name || char(10) || post.body"
             " FROM post JOIN author ON author.id = post.author_id WHERE post.id = ?1",
    [AUTHOR_PAGE] =
        "SELECT author_id, title FROM post WHERE author_id = ?1 ORDER BY id DESC LIMIT 10 OFFSET 10 * ?2",
    [LABEL_PAGE] =
        "SELECT author_id, title || printf(' (#%06x)', colour) FROM label JOIN post_label ON label = name"
        " JOIN post ON id = post_id WHERE name = ?1 ORDER BY post_id DESC LIMIT 10 OFFSET 10 * ?2",
    /* the last change of a subject (a post, an author's or a label's posts) made until then */
    [VERSION] =
        "SELECT version FROM change WHERE subject = ?1 AND changed_ms <= ?2 ORDER BY version DESC LIMIT 1",
};

struct database {
    sqlite3 *handle;
    sqlite3_stmt *query[QUERIES];
};

static void database_open(struct database *database)
{
    int status = sqlite3_open_v2(database_path, &database->handle, SQLITE_OPEN_READONLY, NULL);
    if (status == SQLITE_OK)
        status = sqlite3_busy_timeout(database->handle, 5000);
    for (int i = 0; i < QUERIES && status == SQLITE_OK; i++)
        status = sqlite3_prepare_v2(database->handle, sql[i], -1, &database->query[i], NULL);
    if (status != SQLITE_OK) {
        fprintf(stderr, "blog_service: %s: %s\n", database_path, sqlite3_errmsg(database->handle));
        exit(1);
    }
}

static void database_close(struct database *database)
{
    for (int i = 0; i < QUERIES; i++)
        sqlite3_finalize(database->query[i]);
    sqlite3_close(database->handle);
}

static bool run(struct database *database, enum query query)
{
    int status = sqlite3_step(database->query[query]);
    sqlite3_reset(database->query[query]);
    return status == SQLITE_DONE;
}

/* Number of the subject's last change until then; 0: none. */
static long long version_at(struct database *database, const char *subject, long long until_ms)
{
    sqlite3_stmt *query = database->query[VERSION];
    sqlite3_bind_text(query, 1, subject, -1, SQLITE_STATIC);
    sqlite3_bind_int64(query, 2, until_ms);
    long long version = sqlite3_step(query) == SQLITE_ROW ? sqlite3_column_int64(query, 0) : 0;
    sqlite3_reset(query);
    return version;
}

/* --- loaders: called by libcache when neither level has the key, once for all who wait for it --- */

struct request {
    struct database *database;
    enum query query;
    int id, page; /* of the post or the author; of the list */
    const char *label;
    char key[64];
    char subject[64]; /* whose changes concern the answer */
};

/* The text of an answer: a line with the version it shows, then a line for each row. */
struct text {
    char data[4096];
    size_t size;
};

static void print(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void print(struct text *text, const char *format, ...)
{
    size_t room = sizeof text->data - text->size;
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text->data + text->size, room, format, arguments);
    va_end(arguments);
    if (size > 0)
        text->size += (size_t)size < room ? (size_t)size : room - 1;
}

/* One snapshot of the database: the version and the rows fit together.
 * @param ret_author of the last row @return number of rows, -1: the database failed */
static int read_rows(const struct request *request, struct text *text, int *ret_author)
{
    sqlite3_stmt *query = request->database->query[request->query];
    int rows = 0, status;
    if (!run(request->database, BEGIN))
        return -1;
    print(text, "%lld\n", version_at(request->database, request->subject, monotonic_ms()));
    if (request->label)
        sqlite3_bind_text(query, 1, request->label, -1, SQLITE_STATIC);
    else
        sqlite3_bind_int(query, 1, request->id);
    if (request->query != POST)
        sqlite3_bind_int(query, 2, request->page);
    for (; (status = sqlite3_step(query)) == SQLITE_ROW; rows++) {
        *ret_author = sqlite3_column_int(query, 0);
        print(text, "%s\n", (const char *)sqlite3_column_text(query, 1));
    }
    sqlite3_reset(query);
    /* After the read, not before it: changes now overtake what was read, and libcache must notice. */
    pause_ms(DATABASE_DELAY_MS);
    return run(request->database, COMMIT) && status == SQLITE_DONE ? rows : -1;
}

/* A post is evicted by its key when it changes, and by this tag when its author's name does. Only the loader
 * knows who that is. (A tag that cannot be added fails the load by itself.) */
static int load_post(cache_load *load, cache_slice key, void *arg)
{
    struct text text = {.size = 0};
    char tag[32];
    int author, rows = read_rows(arg, &text, &author);
    (void)key;
    if (rows < 0)
        return CACHE_E_LOADER;
    if (rows == 0) /* remembered too: asking for what is not there does not wear out the database */
        return cache_load_not_found(load);
    int size = snprintf(tag, sizeof tag, "author:%d", author);
    cache_load_tag(load, cache_slice_of(tag, (size_t)size));
    return cache_load_value(load, cache_slice_of(text.data, text.size));
}

/* Every page of a list carries the list's tag, such as author:4:posts or label:redis: one tag evicts them
 * all. */
static int load_list(cache_load *load, cache_slice key, void *arg)
{
    const struct request *request = arg;
    struct text text = {.size = 0};
    int author;
    (void)key;
    if (read_rows(request, &text, &author) < 0)
        return CACHE_E_LOADER;
    cache_load_tag(load, cache_slice_of(request->subject, strlen(request->subject)));
    return cache_load_value(load, cache_slice_of(text.data, text.size));
}

/* --- reads --- */

/* Does the answer show every change that it should? Not found shows none. */
static void check(const struct request *request, long long version)
{
    if (version < version_at(request->database, request->subject, monotonic_ms() - STALE_AFTER_MS))
        atomic_fetch_add(&stale, 1);
}

static void read_through(struct request *request)
{
    cache_value *value;
    cache_load_fn load = request->query == POST ? load_post : load_list;
    int status =
        cache_get_or_load(pages, cache_slice_of(request->key, strlen(request->key)), load, request, &value);
    atomic_fetch_add(&reads, 1);
    if (status == CACHE_OK) {
        check(request, strtoll(value->data, NULL, 10));
        cache_value_free(&value);
    } else if (status == CACHE_NOT_FOUND) {
        atomic_fetch_add(&not_found, 1);
        check(request, 0);
    } else {
        atomic_fetch_add(&failures, 1);
    }
}

/* 0 .. count - 1, small ones far more often: with the same probability from 1 to 10 as from 10 to 100. */
static int popular(unsigned *seed, int count)
{
    int n = (int)pow(count + 1, rand_r(seed) / (RAND_MAX + 1.0)); /* 1 .. count, but for rounding */
    return n <= count ? n - 1 : count - 1;
}

/* Half of the reads are of posts, the other half of lists. */
static void choose(struct request *request, unsigned *seed)
{
    int dice = rand_r(seed) % 4;
    request->page = popular(seed, PAGES);
    request->label = NULL;
    if (dice == 0) {
        request->query = AUTHOR_PAGE;
        request->id = popular(seed, AUTHORS) + 1;
        snprintf(request->key, sizeof request->key, "author:%d:page:%d", request->id, request->page);
        snprintf(request->subject, sizeof request->subject, "author:%d:posts", request->id);
    } else if (dice == 1) {
        request->query = LABEL_PAGE;
        request->label = labels[popular(seed, sizeof labels / sizeof labels[0])];
        snprintf(request->key, sizeof request->key, "label:%s:page:%d", request->label, request->page);
        snprintf(request->subject, sizeof request->subject, "label:%s", request->label);
    } else {
        request->query = POST;
        request->id = popular(seed, POSTS) + 1;
        snprintf(request->key, sizeof request->key, "post:%d", request->id);
        snprintf(request->subject, sizeof request->subject, "post:%d", request->id);
    }
}

static void pause_until(long long due_ms)
{
    long long left_ms;
    while (!atomic_load(&is_stopping) && (left_ms = due_ms - monotonic_ms()) > 0)
        pause_ms(left_ms < NAP_MS ? left_ms : NAP_MS);
}

static void *reader_main(void *arg)
{
    struct database database;
    struct request request = {.database = &database};
    unsigned seed = *(unsigned *)arg;
    database_open(&database);
    long long begin_ms = monotonic_ms();
    for (long long done = 1; !atomic_load(&is_stopping); done++) {
        choose(&request, &seed);
        read_through(&request);
        pause_until(begin_ms + done * 1000 * THREADS / reads_per_s);
    }
    database_close(&database);
    return NULL;
}

/* --- reports --- */

static void report(void)
{
    cache_stats stats = {.struct_size = sizeof stats};
    if (cache_get_stats(pages, &stats) != CACHE_OK)
        return;
    unsigned long long refused = stats.fills_refused + stats.l1_refused;
    printf("reads=%lu not_found=%lu l1=%llu l2=%llu loads=%llu hit_pct=%.1f fills_refused=%llu stale=%lu "
           "failures=%lu "
           "current=%d\n",
           atomic_load(&reads), atomic_load(&not_found), (unsigned long long)stats.l1_hits,
           (unsigned long long)stats.l2_hits, (unsigned long long)stats.loads, 100 * cache_hit_rate(&stats),
           refused, atomic_load(&stale), atomic_load(&failures), stats.trust == CACHE_TRUST_CURRENT);
    fflush(stdout);
}

static void on_signal(int number)
{
    (void)number;
    atomic_store(&is_stopping, true);
}

static void report_until_stopped(int report_ms)
{
    while (!atomic_load(&is_stopping)) {
        struct pollfd input = {STDIN_FILENO, POLLIN, 0};
        char ignored[256];
        if (poll(&input, 1, report_ms) > 0 && read(STDIN_FILENO, ignored, sizeof ignored) <= 0)
            atomic_store(&is_stopping, true);
        report();
    }
}

static int serve(const cache_options *options, int report_ms)
{
    pthread_t readers[THREADS];
    unsigned seeds[THREADS];
    int started = 0, status = cache_create(options, &pages);
    if (status != CACHE_OK) {
        fprintf(stderr, "blog_service: %s: %s\n", options->redis_url, cache_strerror(status));
        return 1;
    }
    for (; started < THREADS; started++) {
        seeds[started] = (unsigned)getpid() * THREADS + (unsigned)started;
        if (pthread_create(&readers[started], NULL, reader_main, &seeds[started]) != 0)
            break;
    }
    if (started == THREADS)
        report_until_stopped(report_ms);
    atomic_store(&is_stopping, true);
    for (int i = 0; i < started; i++)
        pthread_join(readers[i], NULL);
    report();
    cache_destroy(&pages);
    return started == THREADS ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"redis", required_argument, NULL, 'r'},     {"database", required_argument, NULL, 'd'},
        {"namespace", required_argument, NULL, 'n'}, {"reads-per-s", required_argument, NULL, 's'},
        {"report-ms", required_argument, NULL, 'm'}, {NULL, 0, NULL, 0}};
    cache_options options = CACHE_OPTIONS_INIT;
    int option, report_ms = 500;
    bool is_right = true;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 'r':
            options.redis_url = optarg;
            break;
        case 'd':
            database_path = optarg;
            break;
        case 'n':
            options.namespace_name = optarg;
            break;
        case 's':
            reads_per_s = (int)strtol(optarg, NULL, 10);
            break;
        case 'm':
            report_ms = (int)strtol(optarg, NULL, 10);
            break;
        default:
            is_right = false;
        }
    }
    if (!is_right || !options.redis_url || !database_path || optind < argc || reads_per_s < 1 ||
        report_ms < 1) {
        fputs("usage: blog_service --redis URL --database FILE [--namespace NS] [--reads-per-s N] "
              "[--report-ms MS]\n",
              stderr);
        return 2;
    }
    const struct sigaction stop = {.sa_handler = on_signal};
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    return serve(&options, report_ms);
}
