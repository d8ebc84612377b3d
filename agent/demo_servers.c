#include "demo_servers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define START_MS  5000
#define STEP_MS   10
#define REPORT_MS "250"

static int fail(char *error, size_t error_size, const char *what)
{
    snprintf(error, error_size, "%s: %s", what, strerror(errno));
    return -1;
}

/* Says why a child ended, with the last line of its log: the folder will be gone when the user looks. */
static int fail_ended(char *error, size_t error_size, const char *who, int code, const char *log)
{
    char line[256], last[256] = "nothing in its log\n";
    FILE *file = fopen(log, "re");
    while (file && fgets(line, sizeof line, file)) {
        if (line[0] != '\n')
            memcpy(last, line, sizeof last);
    }
    if (file)
        fclose(file);
    last[strcspn(last, "\n")] = '\0';
    snprintf(error, error_size, "%s ended with code %d: %s", who, code, last);
    return -1;
}

static void log_path(const struct demo_servers *servers, const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s/%s.log", servers->folder.path, name);
}

/* blog_service stands beside evictd in the build tree, and under libexec where it is installed. */
static int find_service(char *ret_path, char *error, size_t error_size)
{
    static const char *const places[] = {"../libcache/examples/blog_service",
                                         "../libexec/evictd/blog_service"};
    char self[PATH_MAX], path[PATH_MAX + 64];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0)
        return fail(error, error_size, "/proc/self/exe");
    self[length] = '\0';
    strrchr(self, '/')[1] = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, sizeof path, "%s%s", self, places[i]);
        if (access(path, X_OK) == 0 && realpath(path, ret_path))
            return 0;
    }
    snprintf(error, error_size,
             "blog_service, which the demo runs, is not in %s%s nor in %s; build or install it", self,
             places[0], places[1]);
    return -1;
}

int servers_open(struct demo_servers *servers, char *error, size_t error_size)
{
    memset(servers, 0, sizeof *servers);
    servers->folder.fd = -1;
    for (int i = 0; i < DEMO_SERVICES; i++)
        servers->services[i].in = servers->services[i].out = -1;
    if (find_service(servers->service_path, error, error_size) < 0 ||
        folder_make(&servers->folder, error, error_size) < 0)
        return -1;
    snprintf(servers->database, sizeof servers->database, "%s/blog.db", servers->folder.path);
    return 0;
}

/* --- Redis --- */

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
    const char *dir = servers->folder.path;
    char socket[112], port[16], log[160];
    const char *const argv[] = {"redis-server", "--port", port,     "--bind", "127.0.0.1",
                                "--unixsocket", socket,   "--save", "",       "--appendonly",
                                "no",           "--dir",  dir,      NULL};
    snprintf(socket, sizeof socket, "%s/redis.sock", dir);
    snprintf(servers->redis_url, sizeof servers->redis_url, "unix://%s", socket);
    servers->redis_port = has_port ? free_port() : 0;
    snprintf(port, sizeof port, "%d", servers->redis_port);
    log_path(servers, "redis", log, sizeof log);
    if (child_start(&servers->redis, argv, -1, -1, log, error, error_size) < 0)
        return -1;
    for (int waited_ms = 0; waited_ms < START_MS; waited_ms += STEP_MS) {
        if (answers(socket))
            return 0;
        if (child_has_ended(&servers->redis) && servers->redis.code == CHILD_NOT_STARTED) {
            snprintf(error, error_size,
                     "redis-server is not in PATH; install it (Debian: apt-get install redis-server)");
            return -1;
        }
        if (child_has_ended(&servers->redis))
            return fail_ended(error, error_size, "redis-server", servers->redis.code, log);
        nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000L}, NULL);
    }
    snprintf(error, error_size, "redis-server does not answer within %d ms", START_MS);
    return -1;
}

/* --- the services --- */

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void service_name(int i, char *out, size_t size)
{
    snprintf(out, size, "service-%d", i + 1);
}

static int start_service(struct demo_servers *servers, int i, const char *reads_per_s, char *error,
                         size_t error_size)
{
    struct demo_service *service = &servers->services[i];
    const char *const argv[] = {
        servers->service_path, "--redis",   servers->redis_url, "--database", servers->database,
        "--reads-per-s",       reads_per_s, "--report-ms",      REPORT_MS,    NULL};
    char name[32], log[160];
    int in[2] = {-1, -1}, out[2] = {-1, -1}, result = -1;
    service_name(i, name, sizeof name);
    log_path(servers, name, log, sizeof log);
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || fcntl(out[0], F_SETFL, O_NONBLOCK) < 0)
        fail(error, error_size, "pipe");
    else
        result = child_start(&service->child, argv, in[0], out[1], log, error, error_size);
    close_end(&in[0]);
    close_end(&out[1]);
    service->in = in[1];
    service->out = out[0];
    return result;
}

int servers_start_services(struct demo_servers *servers, int reads_per_s, char *error, size_t error_size)
{
    char rate[16];
    snprintf(rate, sizeof rate, "%d", reads_per_s);
    for (int i = 0; i < DEMO_SERVICES; i++) {
        if (start_service(servers, i, rate, error, error_size) < 0)
            return -1;
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

static void read_lines(struct demo_service *service)
{
    char bytes[1024];
    ssize_t size;
    while (service->out >= 0 && (size = read(service->out, bytes, sizeof bytes)) > 0)
        take_bytes(service, bytes, (size_t)size);
}

int servers_check(struct demo_servers *servers, char *error, size_t error_size)
{
    char name[32], log[160];
    log_path(servers, "redis", log, sizeof log);
    if (child_has_ended(&servers->redis))
        return fail_ended(error, error_size, "redis-server", servers->redis.code, log);
    for (int i = 0; i < DEMO_SERVICES; i++) {
        service_name(i, name, sizeof name);
        log_path(servers, name, log, sizeof log);
        if (child_has_ended(&servers->services[i].child))
            return fail_ended(error, error_size, name, servers->services[i].child.code, log);
        read_lines(&servers->services[i]);
    }
    return 0;
}

double servers_counter(const struct demo_service *service, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = service->line; at; at = strchr(at, ' ')) {
        at += *at == ' ';
        if (strncmp(at, name, size) == 0 && at[size] == '=')
            return strtod(at + size + 1, NULL);
    }
    return 0;
}

void servers_stop_services(struct demo_servers *servers)
{
    for (int i = 0; i < DEMO_SERVICES; i++) {
        child_stop(&servers->services[i].child);
        read_lines(&servers->services[i]);
    }
}

void servers_close(struct demo_servers *servers)
{
    servers_stop_services(servers);
    for (int i = 0; i < DEMO_SERVICES; i++) {
        close_end(&servers->services[i].in);
        close_end(&servers->services[i].out);
    }
    child_stop(&servers->redis);
    folder_remove(&servers->folder);
}
