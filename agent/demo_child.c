#include "demo_child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STEP_MS      10
#define STOP_MS      2000
#define REMOVE_TRIES 100 /* a child that is just dying may make another file */

static void pause_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

/* --- children --- */

/* Between fork and exec: async-signal-safe calls only. */
static void become(const char *const argv[], pid_t parent, int in, int out, const char *log)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before the line above */
        _exit(CHILD_NOT_STARTED);
    int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (log_fd >= 0 && dup2(in >= 0 ? in : null_fd, STDIN_FILENO) >= 0 &&
        dup2(out >= 0 ? out : log_fd, STDOUT_FILENO) >= 0 && dup2(log_fd, STDERR_FILENO) >= 0)
        execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(CHILD_NOT_STARTED);
}

int child_start(struct child *child, const char *const argv[], int in, int out, const char *log, char *error,
                size_t error_size)
{
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(argv, parent, in, out, log);
    if (pid < 0) {
        snprintf(error, error_size, "%s cannot be started: %s", argv[0], strerror(errno));
        return -1;
    }
    *child = (struct child){.pid = pid};
    return 0;
}

bool child_has_ended(struct child *child)
{
    int status;
    if (child->pid > 0 && waitpid(child->pid, &status, WNOHANG) == child->pid) {
        child->pid = 0;
        child->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    return child->pid == 0;
}

static void wait_for_end(struct child *child)
{
    for (int waited_ms = 0; !child_has_ended(child) && waited_ms < STOP_MS; waited_ms += STEP_MS)
        pause_ms(STEP_MS);
    if (child->pid > 0) {
        kill(child->pid, SIGKILL);
        waitpid(child->pid, NULL, 0);
        child->pid = 0;
    }
}

void child_stop(struct child *child)
{
    if (child->pid > 0)
        kill(child->pid, SIGTERM);
    wait_for_end(child);
}

/* --- the folder --- */

static void remove_files(const char *path)
{
    char file[512];
    DIR *folder = opendir(path);
    struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        if (snprintf(file, sizeof file, "%s/%s", path, entry->d_name) < (int)sizeof file)
            unlink(file); /* nothing in it is a folder */
    }
    if (folder)
        closedir(folder);
}

/* The remover's life: no signal of the terminal reaches it, it outlives us by a moment. */
static void remove_at_end(const char *path, int fd)
{
    char byte;
    setpgid(0, 0);
    signal(SIGTERM, SIG_IGN);
    for (int standard = STDIN_FILENO; standard <= STDERR_FILENO; standard++)
        close(standard); /* whoever reads our output must not wait for the remover */
    while (read(fd, &byte, 1) < 0 && errno == EINTR) {
    }
    for (int i = 0; i < REMOVE_TRIES; i++) {
        remove_files(path);
        if (rmdir(path) == 0 || errno == ENOENT)
            break;
        pause_ms(STEP_MS);
    }
    _exit(0);
}

int folder_make(struct folder *folder, char *error, size_t error_size)
{
    const char *base = getenv("TMPDIR");
    int ends[2];
    folder->fd = -1;
    if (snprintf(folder->path, sizeof folder->path, "%s/evictd-demo.XXXXXX", base && *base ? base : "/tmp") >=
        (int)sizeof folder->path)
        snprintf(folder->path, sizeof folder->path, "/tmp/evictd-demo.XXXXXX");
    if (!mkdtemp(folder->path)) {
        snprintf(error, error_size, "the folder %s cannot be made: %s", folder->path, strerror(errno));
        folder->path[0] = '\0';
        return -1;
    }
    if (pipe2(ends, O_CLOEXEC) < 0)
        goto fail;
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        remove_at_end(folder->path, ends[0]);
    }
    close(ends[0]);
    folder->fd = ends[1];
    if (pid < 0)
        goto fail;
    folder->remover = (struct child){.pid = pid};
    return 0;
fail:
    snprintf(error, error_size, "a process cannot be started: %s", strerror(errno));
    folder_remove(folder);
    return -1;
}

void folder_remove(struct folder *folder)
{
    if (folder->fd >= 0)
        close(folder->fd);
    folder->fd = -1;
    if (folder->remover.pid > 0)
        wait_for_end(&folder->remover);
    else if (folder->path[0])
        rmdir(folder->path);
    folder->path[0] = '\0';
}
