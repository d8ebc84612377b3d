#include "flush.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "evict.h"

#define SCAN_COUNT "1000"

static struct invalidate_call empty_call(const struct flush *flush)
{
    return (struct invalidate_call){
        .new_epoch = flush->new_epoch, .expected_epoch = "", .log_length = flush->log_length};
}

static bool has_prefix(const redisReply *name, const char *prefix)
{
    size_t size = strlen(prefix);
    return name->len >= size && memcmp(name->str, prefix, size) == 0;
}

static int lost(struct connection *connection)
{
    snprintf(connection->error, sizeof connection->error, "%s", connection->context->errstr);
    return -1;
}

/* Deletes one page of names: tag sets with their members, and plain keys. What evictd itself keeps stays. */
static int delete_page(struct flush *flush, struct connection *connection, const struct names *names,
                       const redisReply *page)
{
    struct invalidate_call call = empty_call(flush);
    struct invalidate_slice *slices = calloc(2 * page->elements + 1, sizeof *slices);
    struct invalidate_result result = {.members = 0};
    int status = 0;
    if (!slices) {
        snprintf(connection->error, sizeof connection->error, "out of memory");
        return -1;
    }
    call.tags = slices;
    call.keys = slices + page->elements;
    for (size_t i = 0; i < page->elements; i++) {
        const redisReply *name = page->element[i];
        size_t prefix_size = strlen(names->tag_prefix);
        if (name->type != REDIS_REPLY_STRING || has_prefix(name, names->channel) ||
            has_prefix(name, names->lease_prefix))
            continue;
        if (has_prefix(name, names->tag_prefix))
            slices[call.tags_count++] =
                (struct invalidate_slice){name->str + prefix_size, name->len - prefix_size};
        else
            slices[page->elements + call.keys_count++] = (struct invalidate_slice){name->str, name->len};
    }
    if (call.tags_count + call.keys_count > 0)
        status = evict_run(connection, names, &call, &result);
    if (status == 0 && call.tags_count + call.keys_count > 0)
        flush->keys += result.members + result.keys;
    free(slices);
    return status;
}

static int scan_glob(struct flush *flush, struct connection *connection, const struct names *names,
                     const char *glob)
{
    char cursor[24] = "0";
    do {
        redisReply *reply =
            redisCommand(connection->context, "SCAN %s MATCH %s COUNT " SCAN_COUNT, cursor, glob);
        if (!reply)
            return lost(connection);
        if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
            reply->element[0]->type != REDIS_REPLY_STRING || reply->element[1]->type != REDIS_REPLY_ARRAY) {
            snprintf(connection->error, sizeof connection->error, "SCAN: %s",
                     reply->type == REDIS_REPLY_ERROR ? reply->str : "an answer in an unknown form");
            freeReplyObject(reply);
            return -1;
        }
        snprintf(cursor, sizeof cursor, "%s", reply->element[0]->str);
        int status = delete_page(flush, connection, names, reply->element[1]);
        freeReplyObject(reply);
        if (status < 0)
            return -1;
    } while (strcmp(cursor, "0") != 0);
    return 0;
}

static int broadcast_globs(struct flush *flush, struct connection *connection, const struct names *names)
{
    struct invalidate_call call = empty_call(flush);
    struct invalidate_result result;
    int status = -1;
    call.refuses_all_fills = true;
    call.broadcast = broadcast_writer_create();
    for (size_t i = 0; call.broadcast && i < flush->globs_count; i++) {
        if (broadcast_writer_add(call.broadcast, BROADCAST_PATTERNS, flush->globs[i],
                                 strlen(flush->globs[i])) < 0)
            goto out;
    }
    if (!call.broadcast || broadcast_writer_finish(call.broadcast) < 0)
        goto out;
    status = evict_run(connection, names, &call, &result);
    broadcast_writer_destroy(&call.broadcast);
    return status;
out:
    broadcast_writer_destroy(&call.broadcast);
    snprintf(connection->error, sizeof connection->error, "out of memory");
    return -1;
}

static int set_applied(struct connection *connection, const struct names *names,
                       const struct flush_offset *offset)
{
    redisReply *reply = redisCommand(connection->context, "HSET %s %s %lld", names->applied, offset->field,
                                     (long long)offset->offset);
    if (!reply)
        return lost(connection);
    int status = reply->type == REDIS_REPLY_ERROR ? -1 : 0;
    if (status < 0)
        snprintf(connection->error, sizeof connection->error, "HSET: %s", reply->str);
    freeReplyObject(reply);
    return status;
}

/* 1. refuse every fill begun before;  2. delete what the globs cover;  3. tell the L1s, and refuse the fills
 * begun meanwhile;  4. only then say that all up to the new offsets is done. */
static int flush_run(struct sink_task *task, struct connection *connection, const struct names *names)
{
    struct flush *flush = (struct flush *)task;
    struct invalidate_call fence = empty_call(flush);
    struct invalidate_result result;
    fence.refuses_all_fills = true;
    flush->keys = 0;
    if (flush->globs_count > 0) {
        if (evict_run(connection, names, &fence, &result) < 0)
            return -1;
        for (size_t i = 0; i < flush->globs_count; i++) {
            if (scan_glob(flush, connection, names, flush->globs[i]) < 0)
                return -1;
        }
        if (broadcast_globs(flush, connection, names) < 0)
            return -1;
    }
    for (size_t i = 0; i < flush->offsets_count; i++) {
        if (set_applied(connection, names, &flush->offsets[i]) < 0)
            return -1;
    }
    return 0;
}

void flush_init(struct flush *flush, const char *new_epoch, int64_t log_length)
{
    memset(flush, 0, sizeof *flush);
    flush->task.run = flush_run;
    flush->new_epoch = new_epoch;
    flush->log_length = log_length;
}

int flush_add_glob(struct flush *flush, const char *glob)
{
    for (size_t i = 0; i < flush->globs_count; i++) {
        if (strcmp(flush->globs[i], glob) == 0)
            return 0;
    }
    char **globs = realloc(flush->globs, (flush->globs_count + 1) * sizeof *globs);
    char *copy = globs ? strdup(glob) : NULL;
    if (globs)
        flush->globs = globs;
    if (!copy)
        return -1;
    flush->globs[flush->globs_count++] = copy;
    return 0;
}

int flush_set_applied(struct flush *flush, const char *field, int64_t offset)
{
    struct flush_offset *offsets = realloc(flush->offsets, (flush->offsets_count + 1) * sizeof *offsets);
    char *copy = offsets ? strdup(field) : NULL;
    if (offsets)
        flush->offsets = offsets;
    if (!copy)
        return -1;
    flush->offsets[flush->offsets_count++] = (struct flush_offset){copy, offset};
    return 0;
}

void flush_deinit(struct flush *flush)
{
    for (size_t i = 0; i < flush->globs_count; i++)
        free(flush->globs[i]);
    for (size_t i = 0; i < flush->offsets_count; i++)
        free(flush->offsets[i].field);
    free(flush->globs);
    free(flush->offsets);
    memset(flush, 0, sizeof *flush);
}
