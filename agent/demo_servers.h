/* demo_servers: the demo's Redis and its two services, processes of its own; and the services' lines of
 * counters. The demo's main thread. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "demo_child.h"

#define DEMO_SERVICES 2

struct demo_service {
    struct child child;
    int in, out;    /* its stdin, which ends it when closed; its lines of counters; -1: none */
    char line[512]; /* the last complete one */
    char partial[512];
    size_t partial_size;
};

struct demo_servers {
    struct folder folder;
    struct child redis;
    char redis_url[128];
    int redis_port; /* 0: unix socket only */
    char service_path[PATH_MAX];
    char database[112]; /* where the services expect the blog */
    struct demo_service services[DEMO_SERVICES];
};

/** Makes the folder and looks for the service's program. To be called while the process has one thread.
 * @return 0, or -1 with a text in error */
int servers_open(struct demo_servers *servers, char *error, size_t error_size)
    __attribute__((warn_unused_result));
/** Starts Redis and waits until it answers. @param has_port also on a free port of 127.0.0.1 */
int servers_start_redis(struct demo_servers *servers, bool has_port, char *error, size_t error_size)
    __attribute__((warn_unused_result));
/** Starts the services; the database must be there. */
int servers_start_services(struct demo_servers *servers, int reads_per_s, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/** Takes the lines that the services have written since.
 * @return 0, or -1 with a text in error: one of the processes has ended */
int servers_check(struct demo_servers *servers, char *error, size_t error_size)
    __attribute__((warn_unused_result));
/** A counter of the service's last line, "name=12.5"; 0 where there is none. */
double servers_counter(const struct demo_service *service, const char *name);

/** Ends the services and takes their last lines. */
void servers_stop_services(struct demo_servers *servers);
/** Ends all that still runs and removes the folder. */
void servers_close(struct demo_servers *servers);
