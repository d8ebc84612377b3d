/* resp: a growing buffer of Redis commands in wire format (RESP2,
 * https://redis.io/docs/reference/protocol-spec/). One memory error sticks: check resp_failed once, at the
 * end. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct resp {
    char *data;
    size_t size;
    size_t capacity;
    bool has_failed;
};

void resp_init(struct resp *resp);
void resp_deinit(struct resp *resp);
void resp_clear(struct resp *resp); /* keeps its memory */

void resp_array(struct resp *resp, size_t count); /* header of a command of so many arguments */
void resp_bulk(struct resp *resp, const void *data, size_t size);
void resp_text(struct resp *resp, const char *text);
void resp_number(struct resp *resp, int64_t number);
void resp_append(struct resp *resp, const void *data, size_t size); /* raw bytes */
