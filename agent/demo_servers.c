#include "demo_servers.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_TRIES 500 /* of 10 ms */
#define STOP_TRIES  200

static void pause_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

int servers_open(struct demo_servers *servers, char *error, size_t error_size)
{
    const char *tmp = getenv("TMPDIR");
    memset(servers, 0, sizeof *servers);
    for (int i = 0; i < DEMO_SERVICES; i++)
        servers->services[i].in = servers->services[i].out = -1;
    int size =
        snprintf(servers->dir, sizeof servers->dir, "%s/evictd-demo.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (size >= (int)sizeof servers->dir) /* too long for a unix socket's name in it */
        snprintf(servers->dir, sizeof servers->dir, "/tmp/evictd-demo.XXXXXX");
    if (!mkdtemp(servers->dir)) {
        snprintf(error, error_size, "%s: %s", servers->dir, strerror(errno));
        servers->dir[0] = '\0';
        return -1;
    }
    snprintf(servers->socket, sizeof servers->socket, "%s/redis.sock", servers->dir);
    snprintf(servers->redis_url, sizeof servers->redis_url, "unix://%s", servers->socket);
    return 0;
}

/* A child in a group of its own, so that Ctrl-C reaches us alone and we end it in order.
 * @param in, out what become its stdin and stdout; -1: nothing and the log */
static pid_t start(const char *const argv[], int in, int out, const char *log)
{
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (log_fd < 0 || null_fd < 0)
        _exit(127);
    dup2(out >= 0 ? out : log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    dup2(in >= 0 ? in : null_fd, STDIN_FILENO);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = 0;
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &size) == 0)
        port = ntohs(address.sin_port);
    if (fd >= 0)
        close(fd);
    return port;
}

static bool has_ended(pid_t *pid)
{
    if (*pid > 0 && waitpid(*pid, NULL, WNOHANG) == 0)
        return false;
    *pid = 0;
    return true;
}

static bool answers(const char *socket)
{
    redisContext *context = redisConnectUnix(socket);
    redisReply *reply = context && !context->err ? redisCommand(context, "PING") : NULL;
    bool result = reply && reply->type == REDIS_REPLY_STATUS;
    if (reply)
        freeReplyObject(reply);
    if (context)
        redisFree(context);
    return result;
}

int servers_start_redis(struct demo_servers *servers, bool has_port, char *error, size_t error_size)
{
    char port[16], log[96];
    const char *const argv[] = {"redis-server", "--port",        port,         "--bind", "127.0.0.1",
                                "--unixsocket", servers->socket, "--save",     "",       "--appendonly",
                                "no",           "--dir",         servers->dir, NULL};
    servers->redis_port = has_port ? free_port() : 0;
    snprintf(port, sizeof port, "%d", servers->redis_port);
    snprintf(log, sizeof log, "%s/redis.log", servers->dir);
    servers->redis = start(argv, -1, -1, log);
    for (int i = 0; i < START_TRIES; i++) {
        if (has_ended(&servers->redis)) {
            snprintf(error, error_size,
                     "redis-server cannot be started; is it installed? (apt-get install redis-server)");
            return -1;
        }
        if (answers(servers->socket))
            return 0;
        pause_ms(10);
    }
    snprintf(error, error_size, "redis-server does not answer; see %s", log);
    return -1;
}

/* blog_service stands beside evictd in the build tree, or under libexec where it is installed. */
static int find_service(char *out, size_t size, char *error, size_t error_size)
{
    static const char *const places[] = {"/../libcache/examples/blog_service",
                                         "/../libexec/evictd/blog_service", "/blog_service"};
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = '\0';
        *strrchr(self, '/') = '\0';
        for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
            if (snprintf(out, size, "%s%s", self, places[i]) < (int)size && access(out, X_OK) == 0)
                return 0;
        }
    }
    snprintf(error, error_size,
             "blog_service is not found beside evictd; build it (cmake --build build) or install both");
    return -1;
}

int servers_start_services(struct demo_servers *servers, const char *database, unsigned reads_per_s,
                           char *error, size_t error_size)
{
    char path[4224], rate[16], log[96];
    const char *const argv[] = {
        path,  "--redis", servers->redis_url, "--database", database, "--reads-per-s", rate, "--report-ms",
        "250", NULL};
    if (find_service(path, sizeof path, error, error_size) < 0)
        return -1;
    snprintf(rate, sizeof rate, "%u", reads_per_s);
    for (int i = 0; i < DEMO_SERVICES; i++) {
        struct demo_service *service = &servers->services[i];
        int in[2] = {-1, -1}, out[2] = {-1, -1};
        snprintf(log, sizeof log, "%s/service-%d.log", servers->dir, i + 1);
        if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0) {
            snprintf(error, error_size, "pipe: %s", strerror(errno));
            return -1;
        }
        service->pid = start(argv, in[0], out[1], log);
        close(in[0]);
        close(out[1]);
        service->in = in[1]; /* a service ends when its stdin does: with us at the latest */
        service->out = out[0];
        fcntl(out[0], F_SETFL, O_NONBLOCK);
    }
    return 0;
}

/* Keeps the last complete line. */
static void take_bytes(struct demo_service *service, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == '\n') {
            memcpy(service->line, service->partial, service->partial_size);
            service->line[service->partial_size] = '\0';
            service->partial_size = 0;
        } else if (service->partial_size < sizeof service->partial - 1) {
            service->partial[service->partial_size++] = bytes[i];
        }
    }
}

void servers_read(struct demo_servers *servers)
{
    for (int i = 0; i < DEMO_SERVICES; i++) {
        char bytes[1024];
        ssize_t n;
        while (servers->services[i].out >= 0 && (n = read(servers->services[i].out, bytes, sizeof bytes)) > 0)
            take_bytes(&servers->services[i], bytes, (size_t)n);
    }
}

bool servers_are_well(struct demo_servers *servers, char *error, size_t error_size)
{
    if (has_ended(&servers->redis)) {
        snprintf(error, error_size, "redis-server has ended; its log was %s/redis.log", servers->dir);
        return false;
    }
    for (int i = 0; i < DEMO_SERVICES; i++) {
        if (has_ended(&servers->services[i].pid)) {
            snprintf(error, error_size, "service %d has ended; its log was %s/service-%d.log", i + 1,
                     servers->dir, i + 1);
            return false;
        }
    }
    return true;
}

static void stop(pid_t *pid)
{
    if (*pid <= 0)
        return;
    kill(*pid, SIGTERM);
    for (int i = 0; i < STOP_TRIES && !has_ended(pid); i++)
        pause_ms(10);
    if (*pid > 0) {
        kill(*pid, SIGKILL);
        waitpid(*pid, NULL, 0);
        *pid = 0;
    }
}

void servers_stop_services(struct demo_servers *servers)
{
    for (int i = 0; i < DEMO_SERVICES; i++)
        stop(&servers->services[i].pid);
    servers_read(servers);
}

static void remove_folder(const char *dir)
{
    char path[512];
    DIR *folder = opendir(dir);
    struct dirent *entry;
    while (folder && (entry = readdir(folder))) { /* nothing in it is a folder */
        if (snprintf(path, sizeof path, "%s/%s", dir, entry->d_name) < (int)sizeof path)
            unlink(path);
    }
    if (folder)
        closedir(folder);
    rmdir(dir);
}

void servers_close(struct demo_servers *servers)
{
    servers_stop_services(servers);
    for (int i = 0; i < DEMO_SERVICES; i++) {
        if (servers->services[i].out >= 0)
            close(servers->services[i].out);
        if (servers->services[i].in >= 0)
            close(servers->services[i].in);
    }
    stop(&servers->redis);
    if (servers->dir[0])
        remove_folder(servers->dir);
}
