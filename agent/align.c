#include "align.h"

/* What Kafka's offsets and this process remember as done: the later of both. */
static int64_t done_before(const struct align_input *input)
{
    return input->position > input->committed ? input->position : input->committed;
}

struct align_decision align_decide(const struct align_input *input)
{
    int64_t done = done_before(input);
    struct align_decision decision = {.start = ALIGN_OFFSET};
    if (input->has_gap) {
        /* What lies between is gone for good: nobody can say what it would have evicted. */
        decision.start = ALIGN_EARLIEST;
        decision.must_flush = true;
    } else if (done == ALIGN_UNKNOWN && input->applied == ALIGN_UNKNOWN) {
        /* A new group: nothing was promised yet. */
        decision.start = input->start == START_EARLIEST ? ALIGN_EARLIEST : ALIGN_LATEST;
    } else if (input->applied == ALIGN_UNKNOWN) {
        /* Redis knows nothing of what was done: it is empty (then the flush costs nothing), or it came back
         * with data from before this group's first batch (then nobody knows how far back to read). */
        decision.offset = done;
        decision.must_flush = true;
    } else if (done == ALIGN_UNKNOWN) {
        /* Kafka forgot the group's offsets (offsets.retention.minutes): Redis did not. */
        decision.offset = input->applied;
    } else if (input->applied < done) {
        /* Redis lost the last batches: a restart from a snapshot, a failover to a replica that lagged. */
        decision.offset = input->applied;
        decision.is_rewind = true;
    } else {
        /* A crash between Redis and the commit, or offsets set back by hand on purpose: reading again is
         * harmless. */
        decision.offset = input->position != ALIGN_UNKNOWN ? done : input->committed;
    }
    return decision;
}
