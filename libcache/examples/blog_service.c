/* blog_service: a small service that reads a blog through libcache. Read it top down; copy what you need.
 *
 *   blog_service --redis URL --database FILE [--namespace NS] [--reads-per-s N] [--report-ms MS]
 *
 * Two threads ask for pages: a post, an author's posts, a label's posts. Each page is loaded from SQLite only
 * when neither the process (L1) nor Redis (L2) has it. Pages carry tags, so that whoever changes an author or
 * a label can evict every page that shows it. A line of counters goes to stdout every --report-ms, until
 * stdin is closed or SIGTERM comes.
 *
 * To show that nothing stale is served, every answer is compared with the database's version of the page: one
 * that is older, although the change was more than a second and a half ago (max_staleness_ms and some),
 * counts as stale. */
#include <cache/cache.h>
#include <getopt.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS       2
#define PAGE_SIZE_MAX 4096
#define DATABASE_DELAY_MS                                                                                    \
    10 /* a database across the network, under load: SQLite alone would be too fast to show */
#define STALE_AFTER_MS 1500

static cache *pages;
static const char *database_path;
static _Atomic bool is_stopping;
static _Atomic unsigned long reads, failures, stale;
static unsigned reads_per_s = 500;

static long long monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* --- the database: page(name, version, changed_ms, author, body), one connection a thread --- */

struct row {
    long long version, changed_ms, author;
    char body[PAGE_SIZE_MAX];
};

static bool read_row(sqlite3_stmt *query, const char *name, size_t name_size, struct row *ret_row)
{
    bool found = false;
    sqlite3_bind_text(query, 1, name, (int)name_size, SQLITE_STATIC);
    if (sqlite3_step(query) == SQLITE_ROW) {
        ret_row->version = sqlite3_column_int64(query, 0);
        ret_row->changed_ms = sqlite3_column_int64(query, 1);
        ret_row->author = sqlite3_column_int64(query, 2);
        snprintf(ret_row->body, sizeof ret_row->body, "%s", (const char *)sqlite3_column_text(query, 3));
        found = true;
    }
    sqlite3_reset(query);
    return found;
}

/* --- the loader: called by libcache when the page is in neither cache; one thread at a time for each page
 * --- */

static int load_page(cache_load *load, cache_slice key, void *arg)
{
    struct row row;
    char value[PAGE_SIZE_MAX + 32], author[32];
    nanosleep(&(struct timespec){.tv_nsec = DATABASE_DELAY_MS * 1000000L}, NULL);
    if (!read_row(arg, key.data, key.size, &row))
        return cache_load_not_found(load);
    /* What the page shows decides its tags; only the loader can know them all. */
    int author_size = snprintf(author, sizeof author, "author:%lld", row.author);
    if (row.author)
        cache_load_tag(load, cache_slice_of(author, (size_t)author_size));
    if (key.size > 5 && memcmp(key.data, "post:", 5) != 0)
        cache_load_tag(load, key); /* lists, such as author:4:posts, are evicted by their name as a tag */
    int size = snprintf(value, sizeof value, "%lld\n%s", row.version, row.body);
    return cache_load_value(load, cache_slice_of(value, (size_t)size));
}

/* --- a read --- */

static void check_version(sqlite3_stmt *query, const char *name, size_t name_size, const cache_value *value)
{
    struct row row;
    long long version = strtoll(value->data, NULL, 10);
    if (read_row(query, name, name_size, &row) && version < row.version &&
        monotonic_ms() - row.changed_ms > STALE_AFTER_MS)
        atomic_fetch_add(&stale, 1);
}

static void read_page(sqlite3_stmt *query, const char *name, size_t name_size)
{
    cache_value *value;
    int status = cache_get_or_load(pages, cache_slice_of(name, name_size), load_page, query, &value);
    atomic_fetch_add(&reads, 1);
    if (status == CACHE_OK) {
        check_version(query, name, name_size, value);
        cache_value_free(&value);
    } else if (status != CACHE_NOT_FOUND) {
        atomic_fetch_add(&failures, 1);
    }
}

/* Some pages are read far more often than others. */
static int pick_page(unsigned *seed, char *out, size_t size)
{
    static const char *const labels[] = {"c",    "redis", "kafka", "cache", "linux",
                                         "news", "howto", "talk",  "bench", "misc"};
    double share = rand_r(seed) / (double)RAND_MAX;
    int popular = (int)(pow(500, share)) - 1; /* 0 .. 499, small ones most often */
    switch (rand_r(seed) % 4) {
    case 0:
        return snprintf(out, size, "author:%d:posts", popular % 20 + 1);
    case 1:
        return snprintf(out, size, "label:%s", labels[popular % 10]);
    default:
        return snprintf(out, size, "post:%d", popular + 1);
    }
}

static void *reader_main(void *arg)
{
    unsigned seed = (unsigned)(size_t)arg;
    sqlite3 *database;
    sqlite3_stmt *query = NULL;
    if (sqlite3_open_v2(database_path, &database, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(database, 5000) != SQLITE_OK ||
        sqlite3_prepare_v2(database, "SELECT version, changed_ms, author, body FROM page WHERE name = ?", -1,
                           &query, NULL) != SQLITE_OK) {
        fprintf(stderr, "blog_service: %s: %s\n", database_path, sqlite3_errmsg(database));
        exit(1);
    }
    long long begin = monotonic_ms();
    for (long long done = 0; !atomic_load(&is_stopping); done++) {
        char name[64];
        int size = pick_page(&seed, name, sizeof name);
        read_page(query, name, (size_t)size);
        long long due = begin + done * 1000 * THREADS / reads_per_s, early = due - monotonic_ms();
        if (early > 0)
            nanosleep(&(struct timespec){.tv_sec = early / 1000, .tv_nsec = early % 1000 * 1000000}, NULL);
    }
    sqlite3_finalize(query);
    sqlite3_close(database);
    return NULL;
}

/* --- reports --- */

static void report(void)
{
    cache_stats stats = {.struct_size = sizeof stats};
    cache_get_stats(pages, &stats);
    printf("reads=%lu l1=%llu l2=%llu loads=%llu hit_pct=%.1f stale=%lu failures=%lu trust=%d "
           "l1_entries=%llu evicted=%llu\n",
           atomic_load(&reads), (unsigned long long)stats.l1_hits, (unsigned long long)stats.l2_hits,
           (unsigned long long)stats.loads, 100 * cache_hit_rate(&stats), atomic_load(&stale),
           atomic_load(&failures), (int)stats.trust, (unsigned long long)stats.l1_entries,
           (unsigned long long)stats.l1_evicted_key + stats.l1_evicted_tag);
    fflush(stdout);
}

static void on_signal(int number)
{
    (void)number;
    atomic_store(&is_stopping, true);
}

/* Until stdin is closed or a signal comes. */
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

static int usage(void)
{
    fprintf(stderr, "usage: blog_service --redis URL --database FILE [--namespace NS] [--reads-per-s N] "
                    "[--report-ms MS]\n");
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"redis", required_argument, NULL, 'r'},     {"database", required_argument, NULL, 'd'},
        {"namespace", required_argument, NULL, 'n'}, {"reads-per-s", required_argument, NULL, 's'},
        {"report-ms", required_argument, NULL, 'm'}, {NULL, 0, NULL, 0}};
    cache_options options = CACHE_OPTIONS_INIT;
    int option, report_ms = 500;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 'r')
            options.redis_url = optarg;
        else if (option == 'd')
            database_path = optarg;
        else if (option == 'n')
            options.namespace_name = optarg;
        else if (option == 's')
            reads_per_s = (unsigned)strtoul(optarg, NULL, 10);
        else if (option == 'm')
            report_ms = (int)strtol(optarg, NULL, 10);
        else
            return usage();
    }
    if (!options.redis_url || !database_path || optind < argc || reads_per_s == 0 || report_ms <= 0)
        return usage();

    int status = cache_create(&options, &pages);
    if (status != CACHE_OK) {
        fprintf(stderr, "blog_service: %s\n", cache_strerror(status));
        return 1;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGPIPE, SIG_IGN);

    pthread_t readers[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        if (pthread_create(&readers[i], NULL, reader_main, (void *)((size_t)getpid() * THREADS + i)) != 0)
            return 1;
    }
    report_until_stopped(report_ms);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(readers[i], NULL);
    cache_destroy(&pages);
    return 0;
}
