#include "redis_url.h"

#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REDIS_PORT   6379
#define REDIS_DB_MAX 1000000

static int fail(char *error, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int fail(char *error, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, size, format, args);
    va_end(args);
    return -1;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Copies text[0..size) with %XX undone. False: too long, or a bad or zero %XX. */
static bool decode(const char *text, size_t size, char *out, size_t out_size)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '%') {
            int high = size - i > 2 ? hex_digit(text[i + 1]) : -1;
            int low = size - i > 2 ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (n + 1 >= out_size)
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

static bool parse_number(const char *text, size_t size, int max, int *ret_number)
{
    long number = 0;
    if (size == 0 || size > 9)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        number = number * 10 + (text[i] - '0');
    }
    if (number > max)
        return false;
    *ret_number = (int)number;
    return true;
}

static int parse_unix(const char *rest, struct redis_url *url, char *error, size_t error_size)
{
    size_t path_size = strcspn(rest, "?");
    if (path_size == 0 || rest[0] != '/' || !decode(rest, path_size, url->path, sizeof url->path))
        return fail(error, error_size,
                    "the socket path must be absolute and at most %zu bytes: unix:///run/redis.sock",
                    sizeof url->path - 1);
    const char *query = rest + path_size;
    while (*query) {
        query++;
        size_t size = strcspn(query, "&");
        if (size > 3 && strncmp(query, "db=", 3) == 0) {
            if (!parse_number(query + 3, size - 3, REDIS_DB_MAX, &url->db))
                return fail(error, error_size, "db must be a number: unix:///path?db=0");
        } else if (size > 9 && strncmp(query, "password=", 9) == 0) {
            if (!decode(query + 9, size - 9, url->password, sizeof url->password))
                return fail(error, error_size, "the password is too long or has a bad %%XX");
        } else if (size > 5 && strncmp(query, "user=", 5) == 0) {
            if (!decode(query + 5, size - 5, url->user, sizeof url->user))
                return fail(error, error_size, "the user is too long or has a bad %%XX");
        } else {
            /* Its name only: the value may be a password. */
            return fail(error, error_size, "unknown parameter \"%.*s\"; known are db, user and password",
                        (int)strcspn(query, "=&"), query);
        }
        query += size;
    }
    return 0;
}

static int parse_tcp(const char *rest, struct redis_url *url, char *error, size_t error_size)
{
    size_t authority_size = strcspn(rest, "/?");
    const char *end = rest + authority_size;
    const char *at = memrchr(rest, '@', authority_size);
    if (at) {
        size_t login_size = (size_t)(at - rest);
        const char *colon = memchr(rest, ':', login_size);
        size_t user_size = colon ? (size_t)(colon - rest) : login_size;
        if (!decode(rest, user_size, url->user, sizeof url->user) ||
            (colon && !decode(colon + 1, (size_t)(at - colon - 1), url->password, sizeof url->password)))
            return fail(error, error_size, "user or password is too long or has a bad %%XX");
        if (url->user[0] && !url->password[0])
            return fail(error, error_size,
                        "a user without a password; write redis://:PASSWORD@host for a password alone");
        rest = at + 1;
    }
    const char *host = rest, *host_end, *port = NULL;
    if (*host == '[') { /* IPv6 */
        host++;
        host_end = memchr(host, ']', (size_t)(end - host));
        if (!host_end)
            return fail(error, error_size, "the IPv6 address lacks its ']'");
        if (host_end + 1 < end) {
            if (host_end[1] != ':')
                return fail(error, error_size, "expected :port after the ']'");
            port = host_end + 2;
        }
    } else {
        const char *colon = memchr(host, ':', (size_t)(end - host));
        host_end = colon ? colon : end;
        port = colon ? colon + 1 : NULL;
    }
    if (host_end == host)
        strcpy(url->host, "localhost");
    else if (!decode(host, (size_t)(host_end - host), url->host, sizeof url->host))
        return fail(error, error_size, "the host name is too long");
    if (port && (!parse_number(port, (size_t)(end - port), 65535, &url->port) || url->port == 0))
        return fail(error, error_size, "the port must be a number from 1 to 65535");
    if (*end == '/' && end[1] && !parse_number(end + 1, strlen(end + 1), REDIS_DB_MAX, &url->db))
        return fail(error, error_size, "after the host comes /DB, a number");
    if (*end == '?')
        return fail(error, error_size, "parameters are not known here; write redis://host:port/db");
    return 0;
}

int redis_url_parse(const char *text, struct redis_url *ret_url, char *error, size_t error_size)
{
    struct redis_url url = {.port = REDIS_PORT};
    int result;
    if (strncmp(text, "redis://", 8) == 0)
        result = parse_tcp(text + 8, &url, error, error_size);
    else if (strncmp(text, "unix://", 7) == 0)
        result = parse_unix(text + 7, &url, error, error_size);
    else if (strncmp(text, "rediss://", 9) == 0)
        result = fail(error, error_size,
                      "this build has no TLS for Redis; use redis:// or unix:// (or a local TLS proxy)");
    else
        result = fail(error, error_size,
                      "expected redis://[[user]:password@]host[:port][/db] or unix:///path[?db=N]");
    if (result == 0)
        *ret_url = url;
    return result;
}

void redis_url_print(const struct redis_url *url, char *out, size_t size)
{
    if (url->path[0])
        snprintf(out, size, "unix://%s?db=%d", url->path, url->db);
    else if (strchr(url->host, ':'))
        snprintf(out, size, "redis://[%s]:%d/%d", url->host, url->port, url->db);
    else
        snprintf(out, size, "redis://%s:%d/%d", url->host, url->port, url->db);
}
