/* demo_screen: what the demo shows: on a terminal a table that repaints, elsewhere a plain line a second. */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "demo_servers.h"
#include "pipeline.h"

#define SCREEN_LINES 6 /* explained events kept */

struct screen {
    bool is_terminal;
    double shown_at_s, started_s;
    uint64_t shown_events;
    pthread_mutex_t mu; /* the pipeline's thread writes explained events, the demo's main thread paints */
    char explained[SCREEN_LINES][256];
    unsigned explained_count;
};

void screen_open(struct screen *screen);
/** Keeps an explained event. Any thread. */
void screen_explain(struct screen *screen, const char *text);
/** Paints what is known now. */
void screen_paint(struct screen *screen, const struct pipeline_stats *stats,
                  const struct demo_servers *servers, double left_s);
/** The last words. @return stale answers seen by the services */
long screen_summary(struct screen *screen, const struct pipeline_stats *stats,
                    const struct demo_servers *servers);
