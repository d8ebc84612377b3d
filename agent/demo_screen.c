#include "demo_screen.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define TABLE_EVERY_MS 250
#define LINE_EVERY_MS  1000
#define WIDTH          80 /* where the terminal does not tell */
#define WIDTH_MIN      20
#define ROWS           24

#define HOME        "\x1b[H"
#define CLEAR       "\x1b[2J"
#define CLEAR_RIGHT "\x1b[K"
#define CLEAR_BELOW "\x1b[J"
#define HIDE_CURSOR "\x1b[?25l"
#define SHOW_CURSOR "\x1b[?25h"

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void screen_open(struct screen *screen, const struct demo_servers *servers)
{
    memset(screen, 0, sizeof *screen);
    pthread_mutex_init(&screen->mu, NULL);
    screen->servers = servers;
    screen->is_terminal = isatty(STDOUT_FILENO);
    screen->opened_ms = screen->painted_ms = monotonic_ms();
}

void screen_close(struct screen *screen)
{
    if (screen->is_terminal)
        fputs(SHOW_CURSOR, stdout);
    fflush(stdout);
    pthread_mutex_destroy(&screen->mu);
}

void screen_explain(struct screen *screen, const char *text)
{
    pthread_mutex_lock(&screen->mu);
    snprintf(screen->explained[screen->explained_count % SCREEN_EXPLAINED], sizeof screen->explained[0], "%s",
             text);
    screen->explained_count++;
    pthread_mutex_unlock(&screen->mu);
}

/* --- counters --- */

static unsigned long long read_counter(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static long long lag(const struct pipeline_stats *stats)
{
    return atomic_load_explicit(&stats->lag_events, memory_order_relaxed);
}

struct totals {
    double reads, hits, stale;
};

static struct totals add_up(const struct demo_servers *servers)
{
    struct totals totals = {0, 0, 0};
    for (int i = 0; i < DEMO_SERVICES; i++) {
        const struct demo_service *service = &servers->services[i];
        double reads = servers_counter(service, "reads");
        totals.reads += reads;
        totals.hits += reads * servers_counter(service, "hit_pct") / 100;
        totals.stale += servers_counter(service, "stale");
    }
    return totals;
}

static double hit_pct(const struct totals *totals)
{
    return totals->reads > 0 ? 100 * totals->hits / totals->reads : 0;
}

/* --- the table --- */

/* One repaint: everything is cut where the terminal ends, now. */
struct table {
    int width, rows; /* of the terminal */
    int used;        /* rows */
};

static struct table table_begin(void)
{
    struct winsize size;
    bool is_known =
        ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= WIDTH_MIN && size.ws_row > 0;
    return (struct table){is_known ? size.ws_col : WIDTH, is_known ? size.ws_row : ROWS, 0};
}

/* One line over what stood there before. */
static void print_line(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void print_line(struct table *table, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    printf("%.*s" CLEAR_RIGHT "\n", table->width - 1, line);
    table->used++;
}

/* Commands to copy are not cut: the terminal may wrap them. */
static void print_notice(struct table *table, const char *notice)
{
    for (const char *line = notice; *line; line += strcspn(line, "\n") + 1) {
        int size = (int)strcspn(line, "\n");
        printf("%.*s" CLEAR_RIGHT "\n", size, line);
        table->used += 1 + size / table->width;
    }
}

/* Of a long one the middle is left out: what it evicted stands at the end. */
static void print_event(struct table *table, const char *text)
{
    const char *end = strstr(text, " -> ");
    int size = (int)strlen(text), room = table->width - 3, end_size = end ? (int)strlen(end) : 0;
    if (size <= room || end_size + 3 > room)
        print_line(table, "  %s", text);
    else
        print_line(table, "  %.*s...%s", room - 3 - end_size, text, end);
}

static void print_events(struct screen *screen, struct table *table)
{
    int room = table->rows - 1 - table->used; /* the cursor stands in the last row */
    pthread_mutex_lock(&screen->mu);
    unsigned end = screen->explained_count, count = end < SCREEN_EXPLAINED ? end : SCREEN_EXPLAINED;
    if (room < (int)count)
        count = room > 0 ? (unsigned)room : 0;
    for (unsigned i = end - count; i < end; i++)
        print_event(table, screen->explained[i % SCREEN_EXPLAINED]);
    pthread_mutex_unlock(&screen->mu);
}

static void paint_table(struct screen *screen, double events_per_s, int left_s)
{
    const struct pipeline_stats *stats = screen->stats;
    struct table table = table_begin();
    fputs(screen->is_painted ? HOME : CLEAR HIDE_CURSOR HOME, stdout);
    screen->is_painted = true;
    print_line(&table, "evictd demo: a blog's events on Kafka evict from Redis and from two services");
    print_line(&table, left_s < 0 ? "Ctrl-C ends it" : "%d s left", left_s);
    print_line(&table, "%s", "");
    print_line(&table, "  evictd     events  per s   lag    evicted: by name   by tag   dead letters");
    print_line(&table, "  %17llu %6.0f %5lld %19llu %8llu %14llu", read_counter(&stats->events), events_per_s,
               lag(stats), read_counter(&stats->keys), read_counter(&stats->members),
               read_counter(&stats->dead_letters));
    print_line(&table, "%s", "");
    print_line(&table, "  service     reads       L1      L2   loads  hit rate  late fills  stale reads");
    for (int i = 0; i < DEMO_SERVICES; i++) {
        const struct demo_service *service = &screen->servers->services[i];
        print_line(&table, "  %-7d %9.0f %8.0f %7.0f %7.0f %7.1f %% %11.0f %12.0f", i + 1,
                   servers_counter(service, "reads"), servers_counter(service, "l1"),
                   servers_counter(service, "l2"), servers_counter(service, "loads"),
                   servers_counter(service, "hit_pct"), servers_counter(service, "fills_refused"),
                   servers_counter(service, "stale"));
    }
    print_line(&table, "%s", "");
    print_notice(&table, screen->notice);
    print_events(screen, &table);
    fputs(CLEAR_BELOW, stdout);
}

/* --- plain lines --- */

static void paint_line(struct screen *screen, double events_per_s)
{
    const struct pipeline_stats *stats = screen->stats;
    printf("%3lld s: events=%llu events_per_s=%.0f lag=%lld keys=%llu by_tag=%llu",
           (long long)(screen->painted_ms - screen->opened_ms) / 1000, read_counter(&stats->events),
           events_per_s, lag(stats), read_counter(&stats->keys), read_counter(&stats->members));
    for (int i = 0; i < DEMO_SERVICES; i++) {
        const struct demo_service *service = &screen->servers->services[i];
        printf("; service %d: l1=%.0f l2=%.0f loads=%.0f hit_pct=%.1f stale=%.0f", i + 1,
               servers_counter(service, "l1"), servers_counter(service, "l2"),
               servers_counter(service, "loads"), servers_counter(service, "hit_pct"),
               servers_counter(service, "stale"));
    }
    putchar('\n');
    pthread_mutex_lock(&screen->mu);
    if (screen->explained_count > 0)
        printf("       %s\n", screen->explained[(screen->explained_count - 1) % SCREEN_EXPLAINED]);
    pthread_mutex_unlock(&screen->mu);
}

void screen_paint(struct screen *screen, int left_s)
{
    int64_t now_ms = monotonic_ms(), passed_ms = now_ms - screen->painted_ms;
    if (passed_ms < (screen->is_terminal ? TABLE_EVERY_MS : LINE_EVERY_MS))
        return;
    uint64_t events = read_counter(&screen->stats->events);
    double events_per_s = (double)(events - screen->painted_events) * 1000 / (double)passed_ms;
    screen->painted_ms = now_ms;
    screen->painted_events = events;
    if (screen->is_terminal)
        paint_table(screen, events_per_s, left_s);
    else
        paint_line(screen, events_per_s);
    fflush(stdout);
}

long screen_summary(const struct screen *screen)
{
    const struct pipeline_stats *stats = screen->stats;
    struct totals totals = add_up(screen->servers);
    printf("\nsummary: events=%llu matched=%llu keys_by_name=%llu keys_by_tag=%llu dead_letters=%llu\n"
           "         reads=%.0f hit_pct=%.1f stale=%.0f\n",
           read_counter(&stats->events), read_counter(&stats->events_matched), read_counter(&stats->keys),
           read_counter(&stats->members), read_counter(&stats->dead_letters), totals.reads, hit_pct(&totals),
           totals.stale);
    fflush(stdout);
    return (long)totals.stale;
}
