/* receipts: offsets that Redis has acknowledged, and that wait, in order, until the dead letters before them
 * are written. So a slow dead-letter topic holds back commits, but no eviction. The pipeline's thread only.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "batch.h"
#include "source.h"

#define RECEIPTS_MAX 1024 /* then reading pauses */

struct receipts;

/** @return NULL: out of memory */
struct receipts *receipts_create(void);
/** No letter may be on its way any more. */
void receipts_destroy(struct receipts **receipts);

/** Takes a finished batch's offsets (none of an abandoned one's) and its letters; the batch can be used
 * again.
 * @return 0 or -1 (out of memory) */
int receipts_add(struct receipts *receipts, struct batch *batch) __attribute__((warn_unused_result));
/** Stores the offsets whose letters are all written, unless their assignment is over. */
void receipts_settle(struct receipts *receipts, struct source *source);
size_t receipts_count(const struct receipts *receipts);
