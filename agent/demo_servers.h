/* demo_servers: what the demo starts and ends: a private redis-server, the service processes, a folder.
 * Children die with this process, however it ends. The demo's main thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define DEMO_SERVICES 2

struct demo_service {
    pid_t pid;
    int in, out;    /* its stdin, and its lines of counters */
    char line[512]; /* the last complete one */
    char partial[512];
    size_t partial_size;
};

struct demo_servers {
    char dir[64];
    char socket[96];
    char redis_url[128];
    int redis_port; /* 0: unix socket only */
    pid_t redis;
    struct demo_service services[DEMO_SERVICES];
};

/** Makes the folder. @return 0, or -1 with a text in error */
int servers_open(struct demo_servers *servers, char *error, size_t error_size);
/** Starts Redis and waits until it answers. @param has_port also on a free port of 127.0.0.1 */
int servers_start_redis(struct demo_servers *servers, bool has_port, char *error, size_t error_size);
int servers_start_services(struct demo_servers *servers, const char *database, unsigned reads_per_s,
                           char *error, size_t error_size);
/** Takes the lines that the services have written since. */
void servers_read(struct demo_servers *servers);
/** Is every child still there? Otherwise a text in error. */
bool servers_are_well(struct demo_servers *servers, char *error, size_t error_size);
/** Ends the services, so that their last lines come. */
void servers_stop_services(struct demo_servers *servers);
/** Ends all that still runs and removes the folder. */
void servers_close(struct demo_servers *servers);
