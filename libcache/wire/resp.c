#include "resp.h"

#include <stdlib.h>
#include <string.h>

void resp_init(struct resp *resp)
{
    memset(resp, 0, sizeof *resp);
}

void resp_deinit(struct resp *resp)
{
    free(resp->data);
    resp_init(resp);
}

void resp_clear(struct resp *resp)
{
    resp->size = 0;
    resp->has_failed = false;
}

/* Room for `size` more bytes; NULL, once and for all, when there is none. */
static char *reserve(struct resp *resp, size_t size)
{
    if (resp->has_failed)
        return NULL;
    if (resp->capacity - resp->size < size) {
        size_t capacity = resp->capacity ? resp->capacity : 4096;
        while (capacity - resp->size < size)
            capacity *= 2;
        char *data = realloc(resp->data, capacity);
        if (!data) {
            resp->has_failed = true;
            return NULL;
        }
        resp->data = data;
        resp->capacity = capacity;
    }
    return resp->data + resp->size;
}

static size_t print_number(char *out, uint64_t number)
{
    char digits[20];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

static char *print_header(char *end, char kind, size_t number)
{
    *end++ = kind;
    end += print_number(end, number);
    *end++ = '\r';
    *end++ = '\n';
    return end;
}

void resp_array(struct resp *resp, size_t count)
{
    char *end = reserve(resp, 24);
    if (end)
        resp->size = (size_t)(print_header(end, '*', count) - resp->data);
}

void resp_bulk(struct resp *resp, const void *data, size_t size)
{
    char *end = reserve(resp, size + 26);
    if (!end)
        return;
    end = print_header(end, '$', size);
    if (size)
        memcpy(end, data, size);
    end += size;
    *end++ = '\r';
    *end++ = '\n';
    resp->size = (size_t)(end - resp->data);
}

void resp_text(struct resp *resp, const char *text)
{
    resp_bulk(resp, text, strlen(text));
}

void resp_number(struct resp *resp, int64_t number)
{
    char text[21];
    size_t size = 0;
    uint64_t magnitude = (uint64_t)number;
    if (number < 0) {
        text[size++] = '-';
        magnitude = 0 - magnitude;
    }
    size += print_number(text + size, magnitude);
    resp_bulk(resp, text, size);
}

void resp_append(struct resp *resp, const void *data, size_t size)
{
    char *end = size ? reserve(resp, size) : NULL;
    if (!end)
        return;
    memcpy(end, data, size);
    resp->size += size;
}
