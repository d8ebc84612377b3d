/* flush: deletes all that globs cover, for the case that nobody can say which events were missed. Runs over
 * the sink's connection as its task; SCAN sees every key that is there from beginning to end, and what comes
 * in between was loaded after the fills before were refused. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "sink.h"

struct flush_offset {
    char *field;
    int64_t offset;
};

struct flush {
    struct sink_task task; /* first member */
    /* in */
    const char *new_epoch;
    int64_t log_length;
    char **globs; /* over Redis key names */
    size_t globs_count;
    struct flush_offset
        *offsets; /* `applied` is set to these afterwards, explicitly, also lower than it was */
    size_t offsets_count;
    /* out */
    uint64_t keys; /* deleted */
};

void flush_init(struct flush *flush, const char *new_epoch, int64_t log_length);
/** @return 0 or -1 (out of memory) */
int flush_add_glob(struct flush *flush, const char *glob) __attribute__((warn_unused_result));
int flush_set_applied(struct flush *flush, const char *field, int64_t offset)
    __attribute__((warn_unused_result));
void flush_deinit(struct flush *flush);
