#include "demo_screen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define COLUMNS_MIN 40

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void screen_open(struct screen *screen)
{
    memset(screen, 0, sizeof *screen);
    pthread_mutex_init(&screen->mu, NULL);
    screen->is_terminal = isatty(STDOUT_FILENO);
    screen->started_s = screen->shown_at_s = now_s();
}

void screen_explain(struct screen *screen, const char *text)
{
    pthread_mutex_lock(&screen->mu);
    snprintf(screen->explained[screen->explained_count++ % SCREEN_LINES], sizeof screen->explained[0], "%s",
             text);
    pthread_mutex_unlock(&screen->mu);
}

/* A number of a service's line of counters, "name=12.5". */
static double counter(const struct demo_service *service, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = service->line; at && *at; at = strchr(at, ' ')) {
        at += *at == ' ';
        if (strncmp(at, name, size) == 0 && at[size] == '=')
            return strtod(at + size + 1, NULL);
    }
    return 0;
}

static int columns(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < COLUMNS_MIN)
        return 80;
    return size.ws_col;
}

/* One line, cut to the width of the terminal; "\x1b[K" clears what was there before. */
static void print_line(int width, const char *text)
{
    printf("%.*s\x1b[K\n", width - 1, text);
}

static uint64_t read_counter(const _Atomic uint64_t *counter_)
{
    return atomic_load_explicit(counter_, memory_order_relaxed);
}

static void paint_table(struct screen *screen, const struct pipeline_stats *stats,
                        const struct demo_servers *servers, double rate, double left_s)
{
    char line[512];
    int width = columns();
    printf("\x1b[H");
    snprintf(line, sizeof line, "evictd demo: events on Kafka evict from Redis and from two services%s",
             left_s < 0 ? " (Ctrl-C ends it)" : "");
    print_line(width, line);
    print_line(width, "");
    snprintf(line, sizeof line,
             "  events/s %6.0f   events %7llu   lag %4lld   keys evicted %6llu by name, %6llu by tag", rate,
             (unsigned long long)read_counter(&stats->events),
             (long long)atomic_load_explicit(&stats->lag_events, memory_order_relaxed),
             (unsigned long long)read_counter(&stats->keys),
             (unsigned long long)read_counter(&stats->members));
    print_line(width, line);
    print_line(width, "");
    print_line(width, "  service      reads         L1        L2     loads   hit rate   stale");
    for (int i = 0; i < DEMO_SERVICES; i++) {
        const struct demo_service *service = &servers->services[i];
        snprintf(line, sizeof line, "  %7d %10.0f %10.0f %9.0f %9.0f %8.1f %% %7.0f", i + 1,
                 counter(service, "reads"), counter(service, "l1"), counter(service, "l2"),
                 counter(service, "loads"), counter(service, "hit_pct"), counter(service, "stale"));
        print_line(width, line);
    }
    print_line(width, "");
    pthread_mutex_lock(&screen->mu);
    unsigned first = screen->explained_count > SCREEN_LINES ? screen->explained_count - SCREEN_LINES : 0;
    for (unsigned i = first; i < screen->explained_count; i++) {
        snprintf(line, sizeof line, "  %s", screen->explained[i % SCREEN_LINES]);
        print_line(width, line);
    }
    pthread_mutex_unlock(&screen->mu);
    printf("\x1b[J");
    if (left_s >= 0)
        printf("\n  %.0f s left\n", left_s);
}

static void paint_line(struct screen *screen, const struct pipeline_stats *stats,
                       const struct demo_servers *servers, double rate)
{
    printf("%4.0f s: %4.0f events/s, lag %lld, %llu keys by name, %llu by tag;", now_s() - screen->started_s,
           rate, (long long)atomic_load_explicit(&stats->lag_events, memory_order_relaxed),
           (unsigned long long)read_counter(&stats->keys), (unsigned long long)read_counter(&stats->members));
    for (int i = 0; i < DEMO_SERVICES; i++)
        printf(" service %d: hit rate %.1f %%, %.0f loads, %.0f stale%s", i + 1,
               counter(&servers->services[i], "hit_pct"), counter(&servers->services[i], "loads"),
               counter(&servers->services[i], "stale"), i + 1 < DEMO_SERVICES ? ";" : "\n");
    pthread_mutex_lock(&screen->mu);
    if (screen->explained_count)
        printf("        %s\n", screen->explained[(screen->explained_count - 1) % SCREEN_LINES]);
    pthread_mutex_unlock(&screen->mu);
}

void screen_paint(struct screen *screen, const struct pipeline_stats *stats,
                  const struct demo_servers *servers, double left_s)
{
    double now = now_s(), passed = now - screen->shown_at_s;
    uint64_t events = read_counter(&stats->events);
    if (passed < (screen->is_terminal ? 0.25 : 1.0))
        return;
    double rate = (double)(events - screen->shown_events) / passed;
    if (screen->is_terminal && screen->shown_events == 0)
        printf("\x1b[2J");
    screen->shown_at_s = now;
    screen->shown_events = events;
    if (screen->is_terminal)
        paint_table(screen, stats, servers, rate, left_s);
    else
        paint_line(screen, stats, servers, rate);
    fflush(stdout);
}

long screen_summary(struct screen *screen, const struct pipeline_stats *stats,
                    const struct demo_servers *servers)
{
    double reads = 0, misses = 0, stale = 0;
    for (int i = 0; i < DEMO_SERVICES; i++) {
        const struct demo_service *service = &servers->services[i];
        reads += counter(service, "reads");
        misses += counter(service, "reads") * (1 - counter(service, "hit_pct") / 100);
        stale += counter(service, "stale");
    }
    printf("\nsummary: %llu events, %llu of them matched a rule; %llu keys evicted by name, %llu by tag; "
           "%llu dead letter(s)\n"
           "         %.0f reads in two services, hit rate %.1f %%, %.0f stale\n",
           (unsigned long long)read_counter(&stats->events),
           (unsigned long long)read_counter(&stats->events_matched),
           (unsigned long long)read_counter(&stats->keys), (unsigned long long)read_counter(&stats->members),
           (unsigned long long)read_counter(&stats->dead_letters), reads,
           reads > 0 ? 100 * (1 - misses / reads) : 0, stale);
    pthread_mutex_destroy(&screen->mu);
    return (long)stale;
}
