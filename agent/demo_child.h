/* demo_child: the demo's child processes and its folder. Whatever way this process ends, by kill -9 too, the
 * children die with it and the folder goes. The demo's main thread, for children die with the thread that
 * started them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CHILD_NOT_STARTED 127 /* exit code: the program was not found */

struct child {
    pid_t pid; /* 0: none */
    int code;  /* once ended: the exit code, or 128 + the signal */
};

/** Starts argv[0], looked for in PATH, in a process group of its own: Ctrl-C reaches the demo alone, which
 * ends its children in order.
 * @param in, out what become its stdin and stdout; -1: nothing, and the log @param log stderr's file
 * @return 0, or -1 with a text in error; that the program is missing shows as CHILD_NOT_STARTED later */
int child_start(struct child *child, const char *const argv[], int in, int out, const char *log, char *error,
                size_t error_size) __attribute__((warn_unused_result));
/** True also for one that never was. */
bool child_has_ended(struct child *child);
/** SIGTERM, and SIGKILL after two seconds. */
void child_stop(struct child *child);

/* A new folder, and the process that removes it when `fd` is closed: by folder_remove, or by our end. */
struct folder {
    char path[96]; /* so short that a unix socket in it can have a name; "": none */
    int fd;
    struct child remover;
};

/** Makes it under $TMPDIR, default /tmp. To be called while the process has one thread.
 * @return 0, or -1 with a text in error */
int folder_make(struct folder *folder, char *error, size_t error_size) __attribute__((warn_unused_result));
/** Removes it with the files in it. */
void folder_remove(struct folder *folder);
