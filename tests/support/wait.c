/* wait: polls; owns nothing. */
#include "wait.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PAUSE_NS    2000000
#define PORT_FIRST  10000
#define PORT_COUNT  10000 /* tests/support/kafka takes its ports from 20000 on */
#define PORT_TRIES  100
#define MESSAGE_MAX 1024

int64_t wait_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool wait_more(int64_t end_ms)
{
    if (wait_now_ms() >= end_ms)
        return false;
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    return true;
}

void wait_failed(const char *file, int line, int64_t deadline_ms, const char *condition, const char *format,
                 ...)
{
    char message[MESSAGE_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    print_error("not within %lld ms: %s; seen: %s\n", (long long)deadline_ms, condition, message);
    _fail(file, line);
    abort(); /* _fail() does not return; its declaration does not say so */
}

uint16_t port_free(void)
{
    for (int i = 0; i < PORT_TRIES; i++) {
        uint16_t port;
        getrandom(&port, sizeof(port), 0);
        port = (uint16_t)(PORT_FIRST + port % PORT_COUNT);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool is_free = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
        if (fd >= 0)
            close(fd);
        if (is_free)
            return port;
    }
    fail_msg("no free port in %d tries", PORT_TRIES);
    return 0;
}
