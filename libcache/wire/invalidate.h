/* invalidate: builds calls of invalidate.lua and reads their replies. Pure; used by the agent, purge and
 * libcache. */
#pragma once

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

#include "broadcast.h"
#include "names.h"
#include "resp.h"

#define INVALIDATE_MEMBERS_MAX 1000u   /* deleted by one call, so that Redis is never blocked for long */
#define INVALIDATE_NAMES_MAX   512u    /* tags and keys of one call, for the same reason */
#define FENCES_MAX             262144u /* of one generation: about 25 MB */
#define FENCES_AGE_MS          60000   /* a generation begins at least this often */

struct invalidate_slice {
    const void *data;
    size_t size;
};

struct invalidate_partition {
    const char *field; /* <group>/<topic>/<partition> */
    int64_t from;      /* -1: Redis need not have anything applied */
    int64_t next;      /* offset of the next event to read */
};

struct invalidate_call {
    const char *new_epoch;      /* random, offered in case there is none; see epoch_random */
    const char *expected_epoch; /* "" for any */
    int64_t log_length;
    bool broadcasts_members;
    bool refuses_all_fills;              /* flush, patterns */
    const struct invalidate_slice *tags; /* without the prefix */
    size_t tags_count;
    const struct invalidate_slice *keys;
    size_t keys_count;
    struct broadcast_writer *broadcast; /* finished; may have 0 parts */
    const struct invalidate_partition *partitions;
    size_t partitions_count;
};

enum invalidate_status {
    INVALIDATE_DONE,
    INVALIDATE_MORE,
    INVALIDATE_BEHIND,
    INVALIDATE_EPOCH,
    INVALIDATE_BAD
};

struct invalidate_result {
    enum invalidate_status status;
    uint64_t seq; /* done */
    char epoch[EPOCH_SIZE];
    size_t next_tag;  /* more: index into tags to go on with */
    uint64_t members; /* deleted by this call */
    uint64_t keys;    /* named keys (and leases) deleted: done */
    uint64_t foreign; /* tag sets that are no set: done */
    int64_t applied;  /* behind: what Redis has, or -1 */
};

/** Appends one EVALSHA to the buffer. @param first_tag tags before it are left out (after INVALIDATE_MORE) */
void invalidate_encode(struct resp *resp, const char *sha, const struct names *names,
                       const struct invalidate_call *call, size_t first_tag);
/** Reads a reply that is not an error reply. INVALIDATE_BAD: not in the form it must have. */
void invalidate_decode(const redisReply *reply, size_t first_tag, struct invalidate_result *ret_result);

/** A new random epoch (getrandom). */
void epoch_random(char ret_epoch[EPOCH_SIZE]);
