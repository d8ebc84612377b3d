/* proc: child processes of a test. Each dies with the test's main thread (PR_SET_PDEATHSIG). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_BUFFER_SIZE 65536 /* the longest answer of proc_ask() */

struct proc {
    pid_t pid;     /* 0: none */
    int exit_code; /* once ended: the exit code, or 128 + the signal */
    int in;        /* the child's stdin; -1: none */
    int out;       /* the child's stdout; -1: none */
    size_t have;   /* bytes in buffer, read past the last answer */
    char *buffer;
};

/** Starts argv[0] (found in PATH); stdin is empty, stdout and stderr are appended to log_path (NULL: the
 * test's own). */
void proc_spawn(struct proc *proc, const char *const argv[], const char *log_path);

/** The same, with stdin and stdout as pipes for proc_ask(); only stderr goes to log_path. */
void proc_spawn_piped(struct proc *proc, const char *const argv[], const char *log_path);

/** Sends one line (without its end) and reads the one line of the answer, again without its end.
 * @return 0; -1: no answer until the deadline, the child closed its side, or the answer is `size` or longer
 */
int proc_ask(struct proc *proc, const char *line, char *answer, size_t size, int64_t deadline_ms)
    __attribute__((warn_unused_result));

/** Reads one line that the child says unasked; the same as proc_ask() otherwise. */
int proc_read_line(struct proc *proc, char *answer, size_t size, int64_t deadline_ms)
    __attribute__((warn_unused_result));

void proc_signal(struct proc *proc, int number);

/** Waits for the end. @param ret_code the exit code, or 128 + the signal; may be NULL
 * @return 0; -1: still running at the deadline */
int proc_wait(struct proc *proc, int64_t deadline_ms, int *ret_code) __attribute__((warn_unused_result));

/** Does it run still? A process that ended but was not waited for does not. */
bool proc_runs(struct proc *proc);

/** SIGKILL, waits, closes the pipes. Fine with a process that has ended or never was (all zero). */
void proc_kill(struct proc *proc);

/** SIGTERM, waits, closes the pipes. Fails the test if it is still there at the deadline, after killing it.
 * @return the exit code, or 128 + the signal */
int proc_stop(struct proc *proc, int64_t deadline_ms);

/** Does a process of that id run (a zombie does not)? */
bool pid_runs(pid_t pid);
