#include "receipts.h"

#include <stdlib.h>

struct receipt {
    struct receipt *next;
    struct letters *letters; /* NULL: none */
    uint64_t assignment;
    size_t count;
    struct {
        void *partition;
        int64_t next;
    } offsets[];
};

struct receipts {
    struct receipt *first, **end;
    size_t count;
};

struct receipts *receipts_create(void)
{
    struct receipts *receipts = calloc(1, sizeof *receipts);
    if (receipts)
        receipts->end = &receipts->first;
    return receipts;
}

static struct receipt *take_first(struct receipts *receipts)
{
    struct receipt *receipt = receipts->first;
    receipts->first = receipt->next;
    if (!receipts->first)
        receipts->end = &receipts->first;
    receipts->count--;
    return receipt;
}

void receipts_destroy(struct receipts **receipts)
{
    if (!receipts || !*receipts)
        return;
    while ((*receipts)->first) {
        struct receipt *receipt = take_first(*receipts);
        free(receipt->letters);
        free(receipt);
    }
    free(*receipts);
    *receipts = NULL;
}

int receipts_add(struct receipts *receipts, struct batch *batch)
{
    size_t count = batch->outcome == BATCH_APPLIED ? batch->partitions_count : 0;
    struct receipt *receipt = malloc(sizeof *receipt + count * sizeof receipt->offsets[0]);
    if (!receipt)
        return -1;
    receipt->next = NULL;
    receipt->letters = batch->letters;
    batch->letters = NULL;
    receipt->assignment = batch->assignment;
    receipt->count = count;
    for (size_t i = 0; i < count; i++) {
        receipt->offsets[i].partition = batch->partitions[i].partition;
        receipt->offsets[i].next = batch->partitions[i].next;
    }
    *receipts->end = receipt;
    receipts->end = &receipt->next;
    receipts->count++;
    return 0;
}

void receipts_settle(struct receipts *receipts, struct source *source)
{
    while (receipts->first && (!receipts->first->letters || receipts->first->letters->pending == 0)) {
        struct receipt *receipt = take_first(receipts);
        for (size_t i = 0; i < receipt->count && receipt->assignment == source_assignment(source); i++)
            source_store(source, receipt->offsets[i].partition, receipt->offsets[i].next);
        free(receipt->letters);
        free(receipt);
    }
}

size_t receipts_count(const struct receipts *receipts)
{
    return receipts->count;
}
