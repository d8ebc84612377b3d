#include "evict.h"

#include <stdio.h>
#include <stdlib.h>

static redisReply *ask(struct connection *connection, const struct resp *resp)
{
    void *reply = NULL;
    if (resp->has_failed) {
        snprintf(connection->error, sizeof connection->error, "out of memory");
        return NULL;
    }
    if (redisAppendFormattedCommand(connection->context, resp->data, resp->size) != REDIS_OK ||
        redisGetReply(connection->context, &reply) != REDIS_OK || !reply) {
        snprintf(connection->error, sizeof connection->error, "%s", connection->context->errstr);
        return NULL;
    }
    return reply;
}

int evict_run(struct connection *connection, const struct names *names, const struct invalidate_call *call,
              struct invalidate_result *ret_result)
{
    struct invalidate_result result = {.status = INVALIDATE_MORE};
    uint64_t members = 0;
    struct resp resp;
    resp_init(&resp);
    while (result.status == INVALIDATE_MORE) {
        size_t first_tag = result.next_tag;
        resp_clear(&resp);
        invalidate_encode(&resp, connection->sha[SCRIPT_INVALIDATE], names, call, first_tag);
        redisReply *reply = ask(connection, &resp);
        result.status = INVALIDATE_BAD;
        if (!reply)
            break;
        if (reply->type == REDIS_REPLY_ERROR)
            snprintf(connection->error, sizeof connection->error, "%s", reply->str);
        else
            invalidate_decode(reply, first_tag, &result);
        if (result.status == INVALIDATE_BAD && reply->type != REDIS_REPLY_ERROR)
            snprintf(connection->error, sizeof connection->error,
                     "invalidate.lua answered in an unknown form");
        freeReplyObject(reply);
        members += result.members;
    }
    resp_deinit(&resp);
    if (result.status != INVALIDATE_DONE)
        return -1;
    result.members = members;
    *ret_result = result;
    return 0;
}
