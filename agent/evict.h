/* evict: runs one call of invalidate.lua to its end over a connection, step by step. For what is done outside
 * the stream of batches: flushes and purges. */
#pragma once

#include "connection.h"
#include "invalidate.h"

/** @return 0, or -1 with connection->error (an error reply, a lost connection, an answer in an unknown form)
 */
int evict_run(struct connection *connection, const struct names *names, const struct invalidate_call *call,
              struct invalidate_result *ret_result) __attribute__((warn_unused_result));
