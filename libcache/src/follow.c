#include "follow.h"

#include <stdio.h>
#include <string.h>

enum follow_action follow_broadcast(const struct follow *follow, const char *epoch, uint64_t seq)
{
    if (!follow->is_adopted || strcmp(follow->epoch, epoch) != 0)
        return FOLLOW_CLEAR;
    if (seq <= follow->applied)
        return FOLLOW_SKIP;
    return seq == follow->applied + 1 ? FOLLOW_APPLY : FOLLOW_REPLAY;
}

enum follow_action follow_head(const struct follow *follow, const char *run_id, const char *epoch,
                               uint64_t seq, uint64_t applied_then)
{
    if (!follow->is_adopted || strcmp(follow->run_id, run_id) != 0 || strcmp(follow->epoch, epoch) != 0 ||
        seq < applied_then)
        return FOLLOW_CLEAR;
    return seq <= follow->applied ? FOLLOW_CURRENT : FOLLOW_REPLAY;
}

enum follow_action follow_log(const struct follow *follow, const char *epoch, uint64_t seq)
{
    enum follow_action action = follow_broadcast(follow, epoch, seq);
    return action == FOLLOW_REPLAY ? FOLLOW_CLEAR : action;
}

void follow_applied(struct follow *follow, uint64_t seq)
{
    follow->applied = seq;
}

void follow_adopt(struct follow *follow, const char *run_id, const char *epoch, uint64_t seq)
{
    snprintf(follow->run_id, sizeof follow->run_id, "%s", run_id);
    snprintf(follow->epoch, sizeof follow->epoch, "%s", epoch);
    follow->applied = seq;
    follow->is_adopted = true;
}
