/* proc: starts, asks and ends a test's child processes; signals none but those. */
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "wait.h"

#define EXIT_NOT_STARTED 127
#define KILL_DEADLINE_MS 10000
#define LIVING_MAX       64 /* children of one test program at a time */

/* What is killed at exit, before the folders go: a test that failed has not stopped its servers. */
static pid_t living[LIVING_MAX];
static pid_t owner; /* a forked child must not kill its parent's */

static void kill_living(void)
{
    if (getpid() != owner)
        return;
    for (size_t i = 0; i < LIVING_MAX; i++) {
        if (living[i] > 0) {
            kill(living[i], SIGKILL);
            waitpid(living[i], NULL, 0);
        }
    }
}

/* Replaces one pid of the list by another; 0: a free place. */
static void remember(pid_t was, pid_t is)
{
    if (owner != getpid()) {
        memset(living, 0, sizeof(living));
        owner = getpid();
        atexit(kill_living);
    }
    for (size_t i = 0; i < LIVING_MAX; i++) {
        if (living[i] == was) {
            living[i] = is;
            return;
        }
    }
    fail_msg("more than %d children", LIVING_MAX);
}

/* Between fork() and exec(): async-signal-safe calls only, the test may have threads. */
static void become(const char *const argv[], pid_t parent, int in, int out, int error)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before the line above */
        _exit(EXIT_NOT_STARTED);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(error, STDERR_FILENO);
    execvp(argv[0], (char *const *)argv);
    dprintf(STDERR_FILENO, "cannot start %s: %s\n", argv[0], strerror(errno));
    _exit(EXIT_NOT_STARTED);
}

/* in and out: the child's ends; closed here. */
static void start(struct proc *proc, const char *const argv[], int in, int out, int error)
{
    pid_t parent = getpid();

    proc->pid = fork();
    if (proc->pid == 0)
        become(argv, parent, in, out, error);
    close(in);
    close(out);
    close(error);
    if (proc->pid < 0)
        fail_msg("fork: %s", strerror(errno));
    remember(0, proc->pid);
}

static int open_log(const char *path)
{
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)
                  : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        fail_msg("cannot open %s: %s", path ? path : "stderr", strerror(errno));
    return fd;
}

void proc_spawn(struct proc *proc, const char *const argv[], const char *log_path)
{
    *proc = (struct proc){.in = -1, .out = -1};
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int out = open_log(log_path);
    start(proc, argv, null, out, fcntl(out, F_DUPFD_CLOEXEC, 0));
}

void proc_spawn_piped(struct proc *proc, const char *const argv[], const char *log_path)
{
    int in[2], out[2];

    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC)) {
        fail_msg("pipe: %s", strerror(errno));
        return;
    }
    signal(SIGPIPE, SIG_IGN); /* a child that ended shows as an error of proc_ask() */
    *proc = (struct proc){.in = in[1], .out = out[0], .buffer = malloc(PROC_BUFFER_SIZE)};
    assert_non_null(proc->buffer);
    start(proc, argv, in[0], out[1], open_log(log_path));
}

/* Hands out the first line of the buffer, if there is one. @return 1 done, 0 not yet, -1 too long */
static int take_line(struct proc *proc, char *answer, size_t size)
{
    char *end = memchr(proc->buffer, '\n', proc->have);

    if (!end)
        return proc->have == PROC_BUFFER_SIZE ? -1 : 0;
    size_t length = (size_t)(end - proc->buffer);
    if (length >= size)
        return -1;
    memcpy(answer, proc->buffer, length);
    answer[length] = '\0';
    proc->have -= length + 1;
    memmove(proc->buffer, end + 1, proc->have);
    return 1;
}

int proc_read_line(struct proc *proc, char *answer, size_t size, int64_t deadline_ms)
{
    int64_t end_ms = wait_now_ms() + deadline_ms;
    int taken;

    while ((taken = take_line(proc, answer, size)) == 0) {
        struct pollfd readable = {.fd = proc->out, .events = POLLIN};
        int64_t left_ms = end_ms - wait_now_ms();
        if (left_ms <= 0 || poll(&readable, 1, (int)left_ms) <= 0)
            return -1;
        ssize_t got = read(proc->out, proc->buffer + proc->have, PROC_BUFFER_SIZE - proc->have);
        if (got <= 0)
            return -1;
        proc->have += (size_t)got;
    }
    return taken == 1 ? 0 : -1;
}

int proc_ask(struct proc *proc, const char *line, char *answer, size_t size, int64_t deadline_ms)
{
    if (dprintf(proc->in, "%s\n", line) < 0)
        return -1;
    return proc_read_line(proc, answer, size, deadline_ms);
}

void proc_signal(struct proc *proc, int number)
{
    if (proc->pid <= 0 || kill(proc->pid, number))
        fail_msg("signal %d: no process", number);
}

/* Notes the end of the process. @return has it ended? */
static bool reap(struct proc *proc)
{
    int status;

    if (proc->pid <= 0)
        return true;
    if (waitpid(proc->pid, &status, WNOHANG) == 0)
        return false;
    proc->exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    remember(proc->pid, 0);
    proc->pid = 0;
    return true;
}

int proc_wait(struct proc *proc, int64_t deadline_ms, int *ret_code)
{
    int64_t end_ms = wait_now_ms() + deadline_ms;

    while (!reap(proc)) {
        if (!wait_more(end_ms))
            return -1;
    }
    if (ret_code)
        *ret_code = proc->exit_code;
    return 0;
}

bool proc_runs(struct proc *proc)
{
    return !reap(proc);
}

static void close_pipes(struct proc *proc)
{
    if (!proc->buffer)
        return;
    close(proc->in);
    close(proc->out);
    free(proc->buffer);
    proc->buffer = NULL;
    proc->in = proc->out = -1;
    proc->have = 0;
}

void proc_kill(struct proc *proc)
{
    if (!reap(proc)) {
        kill(proc->pid, SIGKILL);
        if (proc_wait(proc, KILL_DEADLINE_MS, NULL))
            fail_msg("process %d outlives SIGKILL", (int)proc->pid);
    }
    close_pipes(proc);
}

int proc_stop(struct proc *proc, int64_t deadline_ms)
{
    pid_t pid = proc->pid;
    bool has_ended = true;

    if (!reap(proc)) {
        kill(proc->pid, SIGCONT);
        kill(proc->pid, SIGTERM);
        has_ended = proc_wait(proc, deadline_ms, NULL) == 0;
    }
    proc_kill(proc);
    if (!has_ended)
        fail_msg("process %d still ran %lld ms after SIGTERM", (int)pid, (long long)deadline_ms);
    return proc->exit_code;
}

bool pid_runs(pid_t pid)
{
    char path[32], line[512];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "r");
    if (!file)
        return false;
    char *name_end = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
    fclose(file);
    return name_end && strncmp(name_end, ") Z", 3) != 0;
}
