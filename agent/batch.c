#include "batch.h"

#include <stdlib.h>
#include <string.h>

/* Names live in blocks that never move, so that slices into them stay good. */
#define BLOCK_SIZE 65536u

struct block {
    struct block *next;
    size_t size, used;
    char bytes[];
};

struct slices {
    struct invalidate_slice *items;
    size_t count, capacity;
};

struct batch_names {
    struct slices keys, tags;
    uint32_t *table;   /* index into keys or tags + 1, tags with the top bit set; open addressing */
    size_t table_size; /* a power of two, at least twice the names */
    struct block *blocks;
    size_t bytes;
    uint64_t seed;
};

#define TAG_BIT 0x80000000u

struct batch *batch_create(uint64_t seed)
{
    struct batch *batch = calloc(1, sizeof *batch);
    if (!batch)
        return NULL;
    batch->names = calloc(1, sizeof *batch->names);
    batch->broadcast = broadcast_writer_create();
    if (!batch->names || !batch->broadcast)
        batch_destroy(&batch);
    else
        batch->names->seed = seed;
    return batch;
}

static void free_blocks(struct block *block)
{
    while (block) {
        struct block *next = block->next;
        free(block);
        block = next;
    }
}

void batch_destroy(struct batch **batch)
{
    if (!batch || !*batch)
        return;
    if ((*batch)->names) {
        free_blocks((*batch)->names->blocks);
        free((*batch)->names->keys.items);
        free((*batch)->names->tags.items);
        free((*batch)->names->table);
        free((*batch)->names);
    }
    broadcast_writer_destroy(&(*batch)->broadcast);
    free((*batch)->partitions);
    free((*batch)->explained);
    free(*batch);
    *batch = NULL;
}

void batch_clear(struct batch *batch)
{
    struct batch_names *names = batch->names;
    names->keys.count = names->tags.count = 0;
    names->bytes = 0;
    if (names->table)
        memset(names->table, 0, names->table_size * sizeof *names->table);
    if (names->blocks) { /* one block is kept */
        free_blocks(names->blocks->next);
        names->blocks->next = NULL;
        names->blocks->used = 0;
    }
    broadcast_writer_clear(batch->broadcast);
    batch->cause.offset = -1;
    batch->partitions_count = 0;
    batch->events = batch->members = batch->seq = 0;
    free(batch->explained);
    batch->explained = NULL;
    batch->explained_size = 0;
}

/* Seeded, for the names come from events: nobody shall choose them to collide. Multiply and fold, eight bytes
 * a step. */
static uint64_t hash_of(uint64_t seed, const char *name, size_t size, bool is_tag)
{
    uint64_t hash = seed ^ (uint64_t)is_tag ^ size;
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, name, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
        name += 8;
        size -= 8;
    }
    uint64_t word = 0;
    memcpy(&word, name, size);
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static const struct invalidate_slice *slice_at(const struct batch_names *names, uint32_t entry)
{
    return entry & TAG_BIT ? &names->tags.items[(entry & ~TAG_BIT) - 1] : &names->keys.items[entry - 1];
}

/* The place of a name in the table: of its entry, or the free one where it belongs. */
static uint32_t *find(const struct batch_names *names, const char *name, size_t size, bool is_tag)
{
    size_t mask = names->table_size - 1;
    for (size_t i = hash_of(names->seed, name, size, is_tag) & mask;; i = (i + 1) & mask) {
        uint32_t entry = names->table[i];
        if (!entry)
            return &names->table[i];
        const struct invalidate_slice *slice = slice_at(names, entry);
        if (!!(entry & TAG_BIT) == is_tag && slice->size == size && memcmp(slice->data, name, size) == 0)
            return &names->table[i];
    }
}

static int grow_table(struct batch_names *names)
{
    size_t count = names->keys.count + names->tags.count;
    if (names->table_size >= 2 * (count + 1))
        return 0;
    size_t size = names->table_size ? 2 * names->table_size : 4 * BATCH_NAMES_MAX;
    uint32_t *table = calloc(size, sizeof *table);
    if (!table)
        return -1;
    free(names->table);
    names->table = table;
    names->table_size = size;
    for (uint32_t i = 0; i < names->keys.count; i++)
        *find(names, names->keys.items[i].data, names->keys.items[i].size, false) = i + 1;
    for (uint32_t i = 0; i < names->tags.count; i++)
        *find(names, names->tags.items[i].data, names->tags.items[i].size, true) = (i + 1) | TAG_BIT;
    return 0;
}

static char *keep_bytes(struct batch_names *names, const char *bytes, size_t size)
{
    struct block *block = names->blocks;
    if (!block || block->size - block->used < size) {
        size_t block_size = size > BLOCK_SIZE ? size : BLOCK_SIZE;
        block = malloc(sizeof *block + block_size);
        if (!block)
            return NULL;
        block->next = names->blocks;
        block->size = block_size;
        block->used = 0;
        names->blocks = block;
    }
    char *kept = block->bytes + block->used;
    memcpy(kept, bytes, size);
    block->used += size;
    names->bytes += size;
    return kept;
}

static int add_name(struct batch_names *names, struct slices *slices, const char *name, size_t size,
                    bool is_tag)
{
    if (grow_table(names) < 0)
        return -1;
    uint32_t *entry = find(names, name, size, is_tag);
    if (*entry)
        return 0;
    if (slices->count == slices->capacity) {
        size_t capacity = slices->capacity ? 2 * slices->capacity : BATCH_NAMES_MAX;
        struct invalidate_slice *items = realloc(slices->items, capacity * sizeof *items);
        if (!items)
            return -1;
        slices->items = items;
        slices->capacity = capacity;
    }
    char *kept = keep_bytes(names, name, size);
    if (!kept)
        return -1;
    slices->items[slices->count++] = (struct invalidate_slice){kept, size};
    *entry = (uint32_t)slices->count | (is_tag ? TAG_BIT : 0);
    return 0;
}

int batch_add_key(struct batch *batch, const char *key, size_t size)
{
    return add_name(batch->names, &batch->names->keys, key, size, false);
}

int batch_add_tag(struct batch *batch, const char *tag, size_t size)
{
    return add_name(batch->names, &batch->names->tags, tag, size, true);
}

int batch_advance(struct batch *batch, void *partition, const char *field, int64_t from, int64_t next)
{
    batch->events++;
    /* Events come in runs of one partition: the last entry nearly always fits. */
    for (size_t i = batch->partitions_count; i-- > 0;) {
        if (batch->partitions[i].partition == partition) {
            batch->partitions[i].next = next;
            return 0;
        }
    }
    if (batch->partitions_count == batch->partitions_capacity) {
        size_t capacity = batch->partitions_capacity ? 2 * batch->partitions_capacity : 16;
        struct batch_partition *partitions = realloc(batch->partitions, capacity * sizeof *partitions);
        if (!partitions)
            return -1;
        batch->partitions = partitions;
        batch->partitions_capacity = capacity;
    }
    char *kept = keep_bytes(batch->names, field, strlen(field) + 1);
    if (!kept)
        return -1;
    batch->partitions[batch->partitions_count++] = (struct batch_partition){kept, partition, from, next};
    return 0;
}

void batch_explain(struct batch *batch, const char *line)
{
    size_t size = strlen(line) + 1;
    char *explained = realloc(batch->explained, batch->explained_size + size);
    if (!explained)
        return;
    memcpy(explained + batch->explained_size, line, size);
    batch->explained = explained;
    batch->explained_size += size;
}

bool batch_is_empty(const struct batch *batch)
{
    return batch->events == 0;
}

bool batch_is_full(const struct batch *batch)
{
    const struct batch_names *names = batch->names;
    return names->keys.count + names->tags.count >= BATCH_NAMES_MAX || names->bytes >= BATCH_BYTES_MAX ||
           batch->events >= BATCH_EVENTS_MAX;
}

const struct invalidate_slice *batch_keys(const struct batch *batch, size_t *ret_count)
{
    *ret_count = batch->names->keys.count;
    return batch->names->keys.items;
}

const struct invalidate_slice *batch_tags(const struct batch *batch, size_t *ret_count)
{
    *ret_count = batch->names->tags.count;
    return batch->names->tags.items;
}
