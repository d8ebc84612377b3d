/* What the reader takes keeps its promises, and what is written of it is taken again with the same names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast.h"
#include "fuzz.h"

#undef NDEBUG
#include <assert.h>

struct echo {
    struct broadcast_writer *writer; /* NULL: only count */
    size_t names, bytes;
};

static void add(struct echo *echo, enum broadcast_kind kind, const void *name, size_t size)
{
    assert(size > 0);
    echo->names++;
    echo->bytes += size;
    if (echo->writer)
        assert(broadcast_writer_add(echo->writer, kind, name, size) == 0);
}

static void add_key(void *arg, const void *key, size_t size)
{
    add(arg, BROADCAST_KEYS, key, size);
}

static void add_tag(void *arg, const void *tag, size_t size)
{
    add(arg, BROADCAST_TAGS, tag, size);
}

static void add_pattern(void *arg, const char *glob, size_t size)
{
    add(arg, BROADCAST_PATTERNS, glob, size);
}

/* @return false: the message is refused */
static bool read_message(const char *text, size_t size, struct echo *echo, struct broadcast *ret_broadcast)
{
    struct json_document document = {.text = NULL};
    const struct broadcast_handler handler = {add_key, add_tag, add_pattern, echo};
    bool is_good = broadcast_parse(&document, text, size, "main", ret_broadcast) == 0;
    if (is_good)
        assert(broadcast_visit(&document, &handler) == 0);
    json_deinit(&document);
    return is_good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct echo first = {broadcast_writer_create(), 0, 0}, second = {NULL, 0, 0};
    struct broadcast broadcast;
    bool has_flushed = false;
    assert(first.writer);
    if (read_message((const char *)data, size, &first, &broadcast)) {
        assert(broadcast.seq > 0 && broadcast.seq < 1000000000000000u);
        assert(broadcast.epoch[0] && strlen(broadcast.epoch) < EPOCH_SIZE);
        assert(broadcast.is_flush || first.names > 0);
        assert(broadcast_writer_finish(first.writer) == 0);
        for (size_t i = 0; i < broadcast_writer_count(first.writer); i++) {
            size_t part_size;
            const char *part = broadcast_writer_part(first.writer, i, &part_size);
            char *message = malloc(part_size + 128);
            assert(message);
            int frame = snprintf(message, 128, "{\"v\":1,\"ns\":\"main\",\"epoch\":\"%s\",\"seq\":%llu,",
                                 broadcast.epoch, (unsigned long long)broadcast.seq);
            memcpy(message + frame, part, part_size);
            assert(read_message(message, (size_t)frame + part_size, &second, &broadcast));
            has_flushed |= broadcast.is_flush;
            free(message);
        }
        assert(has_flushed || (first.names == second.names && first.bytes == second.bytes));
    }
    broadcast_writer_destroy(&first.writer);
    return 0;
}
