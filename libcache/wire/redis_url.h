/* redis_url: where a Redis is. */
#pragma once

#include <stddef.h>

struct redis_url {
    char host[256];
    int port;
    char path[108]; /* of a unix socket; "" for TCP */
    char user[128];
    char password[512];
    int db;
};

/** Parses redis://[[user][:password]@]host[:port][/db], unix:///path[?db=n][&password=p]; user and password
 * may hold %XX. rediss:// is refused with a clear text: this build has no TLS.
 * @return 0 or -1 with a text in error */
int redis_url_parse(const char *text, struct redis_url *ret_url, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/** The URL without its password, for logs. */
void redis_url_print(const struct redis_url *url, char *out, size_t size);
