/* batch: what one atomic step in Redis will evict: keys and tags, each once, and how far every partition has
 * come. Pure. Filled by the pipeline's thread, then handed to the sink, which gives it back. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "invalidate.h"

/* A batch of more names is not begun anew with the next event. One event may go past it, up to its fan-out
 * limit. */
#define BATCH_NAMES_MAX  256
#define BATCH_BYTES_MAX  (256u << 10) /* of names; a soft limit too */
#define BATCH_EVENTS_MAX 16384 /* events that match nothing are cheap, but their offsets must move on */

enum batch_outcome { BATCH_APPLIED, BATCH_ABANDONED };

struct batch_partition {
    const char *field; /* <group>/<topic>/<partition>; the batch's own copy */
    void *partition;   /* the source's; good while its assignment lasts */
    int64_t from;
    int64_t next;
};

/* Dead letters on their way. Lives until all are written: longer than the batch whose events they were. */
struct letters {
    uint64_t pending;
};

struct batch {
    uint64_t session;    /* of the sink: a batch of an older one is abandoned */
    uint64_t assignment; /* of the source: offsets of an older one are not stored */
    uint64_t events;
    struct letters *letters; /* of its events, or NULL; the pipeline's thread only */
    enum batch_outcome outcome;
    uint64_t members;                   /* set by the sink: deleted through tags */
    uint64_t seq;                       /* set by the sink: of its last broadcast */
    struct broadcast_writer *broadcast; /* the sink's thread writes it */
    struct {
        char topic[256];
        int32_t partition;
        int64_t offset; /* -1: no cause */
        const char *rule;
    } cause; /* the first event that matched, where tracing is on */
    struct batch_names *names;
    struct batch_partition *partitions;
    size_t partitions_count, partitions_capacity;
    char *explained; /* lines for the observer, or NULL */
    size_t explained_size;
    struct batch *next_in_queue; /* the sink's */
};

/** @param seed random, of the table of names @return NULL: out of memory */
struct batch *batch_create(uint64_t seed);
void batch_destroy(struct batch **batch);
void batch_clear(struct batch *batch);

/** Adds a name, unless it is in already. @return 0 or -1 (out of memory) */
int batch_add_key(struct batch *batch, const char *key, size_t size) __attribute__((warn_unused_result));
int batch_add_tag(struct batch *batch, const char *tag, size_t size) __attribute__((warn_unused_result));
/** Counts an event of a partition: the next one to read is `next`. @param from where the partition stood
 * before
 * @return 0 or -1 (out of memory) */
int batch_advance(struct batch *batch, void *partition, const char *field, int64_t from, int64_t next)
    __attribute__((warn_unused_result));
/** Appends a line for the observer. Losing one for want of memory is fine. */
void batch_explain(struct batch *batch, const char *line);

bool batch_is_empty(const struct batch *batch); /* no event at all */
bool batch_is_full(const struct batch *batch);
const struct invalidate_slice *batch_keys(const struct batch *batch, size_t *ret_count);
const struct invalidate_slice *batch_tags(const struct batch *batch, size_t *ret_count);
