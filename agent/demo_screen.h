/* demo_screen: what the demo shows: on a terminal a table that repaints in place, elsewhere a plain line a
 * second. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "demo_servers.h"
#include "pipeline.h"

#define SCREEN_EXPLAINED 6 /* events shown */

struct screen {
    /* set at opening */
    bool is_terminal;
    const struct pipeline_stats *stats; /* set before the first paint */
    const struct demo_servers *servers;
    /* the demo's main thread only */
    char notice[5120]; /* lines that stay, such as addresses */
    bool is_painted;
    int64_t opened_ms, painted_ms;
    uint64_t painted_events;
    /* under mu: the pipeline's thread writes, the main thread paints */
    pthread_mutex_t mu;
    char explained[SCREEN_EXPLAINED][256];
    unsigned explained_count;
};

void screen_open(struct screen *screen, const struct demo_servers *servers);
/** Gives a terminal back as it was. No screen_explain may follow. */
void screen_close(struct screen *screen);

/** Keeps an explained event. Any thread. */
void screen_explain(struct screen *screen, const char *text);
/** Shows what is known now, where it is time to. @param left_s until the end; negative: none is set */
void screen_paint(struct screen *screen, int left_s);

/** The last words, below the table. @return stale answers that the services have seen */
long screen_summary(const struct screen *screen);
