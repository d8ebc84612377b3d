/* follow: what to do with what is heard of the evictions: apply, skip, read the log, or start afresh. Pure:
 * the rules of staying in step, without a socket. The subscriber's thread feeds it and does what it says. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "broadcast.h"
#include "connection.h"

struct follow {
    char epoch[EPOCH_SIZE];   /* of the history we follow; "" before the first */
    char run_id[RUN_ID_SIZE]; /* of the server we follow */
    uint64_t applied;         /* number of the last eviction applied */
    bool is_adopted;          /* false: never saw a head */
};

enum follow_action {
    FOLLOW_CURRENT, /* nothing is missing */
    FOLLOW_APPLY,   /* it is the next one: apply it, then follow_applied */
    FOLLOW_SKIP,    /* applied already */
    FOLLOW_REPLAY,  /* some are missing: read the log from applied + 1 on */
    FOLLOW_CLEAR    /* history is lost or another one: drop all, then follow_adopt */
};

/** A broadcast came. */
enum follow_action follow_broadcast(const struct follow *follow, const char *epoch, uint64_t seq);
/** The head was read, from the server run_id.
 * @param applied_then what was applied when the head was asked for: broadcasts may be faster than the answer
 */
enum follow_action follow_head(const struct follow *follow, const char *run_id, const char *epoch,
                               uint64_t seq, uint64_t applied_then);
/** The next entry of the log, read from applied + 1 on. A log that begins later has been trimmed. */
enum follow_action follow_log(const struct follow *follow, const char *epoch, uint64_t seq);

void follow_applied(struct follow *follow, uint64_t seq);
/** Takes the head as it is: what was before is forgotten. */
void follow_adopt(struct follow *follow, const char *run_id, const char *epoch, uint64_t seq);
