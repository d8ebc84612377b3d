/* align: where every partition must start after an assignment, a reconnect to Redis, or a gap. Pure; the I/O
 * that it needs (committed offsets, what Redis has applied, flushes) is the pipeline's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

#define ALIGN_UNKNOWN (-1)

enum align_start {
    ALIGN_OFFSET,   /* at `offset` */
    ALIGN_EARLIEST, /* at the first event the partition holds */
    ALIGN_LATEST    /* behind the last one */
};

struct align_input {
    int64_t committed;       /* C: the group's offset in Kafka, ALIGN_UNKNOWN: none */
    int64_t applied;         /* R: what Redis says it applied, ALIGN_UNKNOWN: nothing */
    int64_t position;        /* acknowledged by Redis during this assignment, ALIGN_UNKNOWN: nothing */
    bool has_gap;            /* Kafka said that the next events are gone */
    enum config_start start; /* for a group that is new */
};

struct align_decision {
    enum align_start start;
    int64_t offset;
    bool must_flush; /* whatever the topic's rules can evict may be stale: flush it before reading on */
    bool is_rewind;  /* Redis had applied more once than it has now */
};

/** Decides for one partition. */
struct align_decision align_decide(const struct align_input *input);
