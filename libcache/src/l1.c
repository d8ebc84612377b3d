#include "l1.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "glob.h"
#include "hash.h"

/* At 100,000 evictions a second and loads of 10 ms, 1000 evictions fall into a load: one name in 500 shares a
 * slot. */
#define EVICTED_SLOTS   (1u << 19)
#define BLOCK_OVERHEAD  16 /* of malloc */
#define BUCKETS_MIN     256
#define ENTRY_SHARE_MAX 16 /* a larger share of the L1 is not for one entry */

struct tag;

/* An entry's membership in a tag. */
struct link {
    struct entry *entry;
    struct tag *tag;
    struct link *next, **before; /* in the tag's list */
};

struct entry {
    struct entry *next_in_bucket;
    struct entry *newer, *older; /* LRU */
    uint64_t hash;
    uint64_t as_of;
    struct l1_meta meta;
    size_t bytes; /* that count against the bound */
    size_t value_size;
    uint32_t key_size;
    uint32_t tags_count;
    struct link links[]; /* then the key, then the value */
};

struct tag {
    struct tag *next_in_bucket;
    struct link *links;
    uint64_t hash;
    size_t size;
    char name[];
};

struct l1 {
    /* set at creation */
    size_t bytes_max;
    uint64_t seed;
    char *tag_prefix;
    size_t buckets; /* a power of two; of both tables */
    struct stats *stats;

    /* under mu */
    pthread_mutex_t mu;
    struct entry **entries;
    struct tag **tags;
    struct entry *newest, *oldest;
    uint64_t count, bytes;
    uint64_t applied, generation,
        floor; /* floor: number of the last eviction that no slot can hold (patterns) */
    uint64_t *evicted;
};

static char *key_of(const struct entry *entry)
{
    return (char *)(uintptr_t)&entry->links[entry->tags_count];
}

static char *value_of(const struct entry *entry)
{
    return key_of(entry) + entry->key_size;
}

/* About one bucket for 256 bytes of content. */
static size_t buckets_for(size_t bytes)
{
    size_t buckets = BUCKETS_MIN;
    while (buckets < bytes / 256 && buckets < 1u << 24)
        buckets *= 2;
    return buckets;
}

struct l1 *l1_create(size_t bytes, uint64_t seed, const char *tag_prefix, struct stats *stats)
{
    struct l1 *l1 = calloc(1, sizeof *l1);
    if (!l1)
        return NULL;
    l1->bytes_max = bytes;
    l1->seed = seed;
    l1->stats = stats;
    l1->buckets = buckets_for(bytes);
    l1->bytes = 2 * l1->buckets * sizeof(void *);
    l1->tag_prefix = strdup(tag_prefix);
    l1->entries = calloc(l1->buckets, sizeof *l1->entries);
    l1->tags = calloc(l1->buckets, sizeof *l1->tags);
    l1->evicted = calloc(EVICTED_SLOTS, sizeof *l1->evicted);
    l1->generation = 1;
    pthread_mutex_init(&l1->mu, NULL);
    if (!l1->tag_prefix || !l1->entries || !l1->tags || !l1->evicted)
        l1_destroy(&l1);
    return l1;
}

static struct entry **find(struct l1 *l1, uint64_t hash, cache_slice key)
{
    struct entry **at = &l1->entries[hash & (l1->buckets - 1)];
    while (*at && ((*at)->hash != hash || (*at)->key_size != key.size ||
                   memcmp(key_of(*at), key.data, key.size) != 0))
        at = &(*at)->next_in_bucket;
    return at;
}

static struct tag **find_tag(struct l1 *l1, uint64_t hash, cache_slice name)
{
    struct tag **at = &l1->tags[hash & (l1->buckets - 1)];
    while (*at && ((*at)->hash != hash || (*at)->size != name.size ||
                   memcmp((*at)->name, name.data, name.size) != 0))
        at = &(*at)->next_in_bucket;
    return at;
}

static size_t tag_bytes(size_t name_size)
{
    return sizeof(struct tag) + name_size + BLOCK_OVERHEAD;
}

/* --- LRU --- */

static void unlink_lru(struct l1 *l1, struct entry *entry)
{
    *(entry->newer ? &entry->newer->older : &l1->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &l1->oldest) = entry->newer;
}

static void push_newest(struct l1 *l1, struct entry *entry)
{
    entry->newer = NULL;
    entry->older = l1->newest;
    *(l1->newest ? &l1->newest->newer : &l1->oldest) = entry;
    l1->newest = entry;
}

/* --- tags --- */

static void leave_tag(struct l1 *l1, struct link *link)
{
    struct tag *tag = link->tag;
    *link->before = link->next;
    if (link->next)
        link->next->before = link->before;
    if (!tag->links) { /* nobody carries it any more */
        struct tag **at = &l1->tags[tag->hash & (l1->buckets - 1)];
        while (*at != tag)
            at = &(*at)->next_in_bucket;
        *at = tag->next_in_bucket;
        l1->bytes -= tag_bytes(tag->size);
        free(tag);
    }
}

static int join_tag(struct l1 *l1, struct entry *entry, struct link *link, cache_slice name)
{
    uint64_t hash = hash_bytes(~l1->seed, name.data, name.size);
    struct tag *tag = *find_tag(l1, hash, name);
    if (!tag) {
        tag = malloc(sizeof *tag + name.size);
        if (!tag)
            return -1;
        struct tag **bucket = &l1->tags[hash & (l1->buckets - 1)];
        tag->next_in_bucket = *bucket;
        tag->links = NULL;
        tag->hash = hash;
        tag->size = name.size;
        memcpy(tag->name, name.data, name.size);
        *bucket = tag;
        l1->bytes += tag_bytes(name.size);
    }
    link->entry = entry;
    link->tag = tag;
    link->next = tag->links;
    link->before = &tag->links;
    if (tag->links)
        tag->links->before = &link->next;
    tag->links = link;
    return 0;
}

/* --- entries --- */

static void drop(struct l1 *l1, struct entry *entry)
{
    struct entry **at = &l1->entries[entry->hash & (l1->buckets - 1)];
    while (*at != entry)
        at = &(*at)->next_in_bucket;
    *at = entry->next_in_bucket;
    unlink_lru(l1, entry);
    for (uint32_t i = 0; i < entry->tags_count; i++)
        leave_tag(l1, &entry->links[i]);
    l1->bytes -= entry->bytes;
    l1->count--;
    free(entry);
}

static void drop_all(struct l1 *l1)
{
    while (l1->oldest)
        drop(l1, l1->oldest); /* NOLINT(clang-analyzer-unix.Malloc): unlink_lru moves oldest on */
}

void l1_destroy(struct l1 **l1)
{
    if (!l1 || !*l1)
        return;
    if ((*l1)->entries && (*l1)->tags)
        drop_all(*l1);
    pthread_mutex_destroy(&(*l1)->mu);
    free((*l1)->entries);
    free((*l1)->tags);
    free((*l1)->evicted);
    free((*l1)->tag_prefix);
    free(*l1);
    *l1 = NULL;
}

bool l1_get(struct l1 *l1, cache_slice key, uint64_t now_ms, l1_room_fn room, void *arg, size_t *ret_size,
            struct l1_meta *ret_meta)
{
    uint64_t hash = hash_bytes(l1->seed, key.data, key.size);
    pthread_mutex_lock(&l1->mu);
    struct entry *entry = *find(l1, hash, key);
    if (entry && entry->meta.expires_ms <= now_ms) {
        drop(l1, entry);
        STATS_INC(l1->stats, l1_expired);
        entry = NULL;
    }
    if (entry) {
        unlink_lru(l1, entry);
        push_newest(l1, entry);
        *ret_size = entry->value_size;
        *ret_meta = entry->meta;
        void *out = room(arg, entry->value_size);
        if (out && entry->value_size)
            memcpy(out, value_of(entry), entry->value_size);
    }
    pthread_mutex_unlock(&l1->mu);
    return entry != NULL;
}

/* --- what was evicted lately --- */

static uint64_t *slot_of(struct l1 *l1, uint64_t hash)
{
    return &l1->evicted[(hash >> 32) & (EVICTED_SLOTS - 1)];
}

static uint64_t key_hash(struct l1 *l1, cache_slice key)
{
    return hash_bytes(l1->seed, key.data, key.size);
}

static uint64_t tag_hash(struct l1 *l1, cache_slice tag)
{
    return hash_bytes(~l1->seed, tag.data, tag.size);
}

static void remember(struct l1 *l1, uint64_t hash, uint64_t seq)
{
    uint64_t *slot = slot_of(l1, hash);
    if (*slot < seq)
        *slot = seq;
}

static bool is_overtaken(struct l1 *l1, uint64_t hash, const cache_slice *tags, size_t tags_count,
                         struct l1_token token)
{
    if (token.generation != l1->generation || l1->floor > token.as_of || *slot_of(l1, hash) > token.as_of)
        return true;
    for (size_t i = 0; i < tags_count; i++) {
        if (*slot_of(l1, tag_hash(l1, tags[i])) > token.as_of)
            return true;
    }
    return false;
}

bool l1_is_overtaken(struct l1 *l1, cache_slice key, const cache_slice *tags, size_t tags_count,
                     struct l1_token token)
{
    uint64_t hash = key_hash(l1, key);
    pthread_mutex_lock(&l1->mu);
    bool result = is_overtaken(l1, hash, tags, tags_count, token);
    pthread_mutex_unlock(&l1->mu);
    return result;
}

struct l1_token l1_token(struct l1 *l1)
{
    pthread_mutex_lock(&l1->mu);
    struct l1_token token = {l1->applied, l1->generation};
    pthread_mutex_unlock(&l1->mu);
    return token;
}

/* --- insert --- */

static size_t entry_size(size_t tags_count, size_t key_size, size_t value_size)
{
    return sizeof(struct entry) + tags_count * sizeof(struct link) + key_size + value_size;
}

static size_t bytes_needed(size_t entry_bytes, const cache_slice *tags, size_t tags_count)
{
    size_t bytes = entry_bytes + BLOCK_OVERHEAD;
    for (size_t i = 0; i < tags_count; i++) /* as if each tag were new */
        bytes += tag_bytes(tags[i].size);
    return bytes;
}

static struct entry *make_entry(cache_slice key, cache_slice value, size_t tags_count,
                                const struct l1_meta *meta, uint64_t as_of, uint64_t hash)
{
    size_t size = entry_size(tags_count, key.size, value.size);
    struct entry *entry = malloc(size);
    if (!entry)
        return NULL;
    entry->hash = hash;
    entry->as_of = as_of;
    entry->meta = *meta;
    entry->bytes = size + BLOCK_OVERHEAD;
    entry->value_size = value.size;
    entry->key_size = (uint32_t)key.size;
    entry->tags_count = (uint32_t)tags_count;
    memcpy(key_of(entry), key.data, key.size);
    if (value.size)
        memcpy(value_of(entry), value.data, value.size);
    return entry;
}

static void make_room(struct l1 *l1, size_t bytes, uint64_t now_ms)
{
    while (l1->oldest && l1->bytes + bytes > l1->bytes_max) {
        if (l1->oldest->meta.expires_ms <= now_ms)
            STATS_INC(l1->stats, l1_expired);
        else
            STATS_INC(l1->stats, l1_evicted_size);
        drop(l1, l1->oldest);
    }
}

/* Locked. Takes over the entry, on failure too. */
static enum l1_insert link_entry(struct l1 *l1, struct entry *entry, const cache_slice *tags,
                                 size_t tags_count)
{
    struct entry **bucket = &l1->entries[entry->hash & (l1->buckets - 1)];
    for (size_t i = 0; i < tags_count; i++) {
        if (join_tag(l1, entry, &entry->links[i], tags[i]) < 0) {
            while (i-- > 0)
                leave_tag(l1, &entry->links[i]);
            free(entry);
            return L1_NO_MEMORY;
        }
    }
    entry->next_in_bucket = *bucket;
    *bucket = entry;
    push_newest(l1, entry);
    l1->bytes += entry->bytes;
    l1->count++;
    return L1_STORED;
}

enum l1_insert l1_insert(struct l1 *l1, cache_slice key, cache_slice value, const cache_slice *tags,
                         size_t tags_count, const struct l1_meta *meta, struct l1_token token,
                         uint64_t now_ms)
{
    uint64_t hash = key_hash(l1, key);
    size_t bytes = bytes_needed(entry_size(tags_count, key.size, value.size), tags, tags_count);
    if (bytes > l1->bytes_max / ENTRY_SHARE_MAX)
        return L1_TOO_LARGE;
    struct entry *entry = make_entry(key, value, tags_count, meta, token.as_of, hash);
    if (!entry)
        return L1_NO_MEMORY;
    enum l1_insert result = L1_REFUSED;
    pthread_mutex_lock(&l1->mu);
    if (is_overtaken(l1, hash, tags, tags_count, token)) {
        free(entry);
    } else {
        struct entry *old = *find(l1, hash, key);
        if (old && old->as_of > token.as_of) { /* a later value is there already */
            free(entry);
        } else {
            if (old)
                drop(l1, old);
            make_room(l1, bytes, now_ms);
            result = link_entry(l1, entry, tags, tags_count);
        }
    }
    pthread_mutex_unlock(&l1->mu);
    if (result == L1_STORED)
        STATS_INC(l1->stats, l1_inserts);
    else if (result == L1_REFUSED)
        STATS_INC(l1->stats, l1_refused);
    return result;
}

/* --- evictions --- */

/* Locked. Drops the entry if it is older than `before`. */
static void evict_key(struct l1 *l1, uint64_t hash, cache_slice key, uint64_t before)
{
    struct entry *entry = *find(l1, hash, key);
    if (entry && entry->as_of < before) {
        drop(l1, entry);
        STATS_INC(l1->stats, l1_evicted_key);
    }
}

/* Locked. The same for all that carry the tag. */
static void evict_tag(struct l1 *l1, uint64_t hash, cache_slice name, uint64_t before)
{
    struct tag *tag = *find_tag(l1, hash, name);
    struct link *next;
    for (struct link *link = tag ? tag->links : NULL; link; link = next) {
        struct entry *entry = link->entry;
        /* The entry's own links go with it; one that carries the tag twice may own the next one too. */
        for (next = link->next; next && next->entry == entry; next = next->next)
            ;
        if (entry->as_of < before) {
            drop(l1, entry);
            STATS_INC(l1->stats, l1_evicted_tag);
        }
    }
}

void l1_evict_key(struct l1 *l1, cache_slice key, uint64_t seq)
{
    uint64_t hash = key_hash(l1, key);
    pthread_mutex_lock(&l1->mu);
    remember(l1, hash, seq);
    evict_key(l1, hash, key, seq);
    pthread_mutex_unlock(&l1->mu);
}

void l1_evict_tag(struct l1 *l1, cache_slice name, uint64_t seq)
{
    uint64_t hash = tag_hash(l1, name);
    pthread_mutex_lock(&l1->mu);
    remember(l1, hash, seq);
    evict_tag(l1, hash, name, seq);
    pthread_mutex_unlock(&l1->mu);
}

void l1_forget_key(struct l1 *l1, cache_slice key)
{
    uint64_t hash = key_hash(l1, key);
    pthread_mutex_lock(&l1->mu);
    remember(l1, hash, l1->applied + 1);
    evict_key(l1, hash, key, UINT64_MAX);
    pthread_mutex_unlock(&l1->mu);
}

void l1_forget_tag(struct l1 *l1, cache_slice name)
{
    uint64_t hash = tag_hash(l1, name);
    pthread_mutex_lock(&l1->mu);
    remember(l1, hash, l1->applied + 1);
    evict_tag(l1, hash, name, UINT64_MAX);
    pthread_mutex_unlock(&l1->mu);
}

static bool matches_tag(const struct l1 *l1, const struct tag *tag, cache_slice glob)
{
    char name[64 + CACHE_TAG_SIZE_MAX];
    size_t prefix_size = strlen(l1->tag_prefix);
    assert(prefix_size + tag->size <= sizeof name);
    memcpy(name, l1->tag_prefix, prefix_size);
    memcpy(name + prefix_size, tag->name, tag->size);
    return glob_match(glob.data, glob.size, name, prefix_size + tag->size);
}

static bool matches(const struct l1 *l1, const struct entry *entry, cache_slice glob)
{
    if (glob_match(glob.data, glob.size, key_of(entry), entry->key_size))
        return true;
    for (uint32_t i = 0; i < entry->tags_count; i++) {
        if (matches_tag(l1, entry->links[i].tag, glob))
            return true;
    }
    return false;
}

void l1_evict_glob(struct l1 *l1, cache_slice glob, uint64_t seq)
{
    pthread_mutex_lock(&l1->mu);
    if (l1->floor < seq)
        l1->floor = seq;
    struct entry *newer;
    for (struct entry *entry = l1->oldest; entry; entry = newer) {
        newer = entry->newer;
        if (entry->as_of < seq && matches(l1, entry, glob)) {
            drop(l1, entry);
            STATS_INC(l1->stats, l1_evicted_key);
        }
    }
    pthread_mutex_unlock(&l1->mu);
}

void l1_set_applied(struct l1 *l1, uint64_t seq)
{
    pthread_mutex_lock(&l1->mu);
    if (l1->applied < seq)
        l1->applied = seq;
    pthread_mutex_unlock(&l1->mu);
}

uint64_t l1_applied(struct l1 *l1)
{
    return l1_token(l1).as_of;
}

void l1_clear(struct l1 *l1, uint64_t seq)
{
    pthread_mutex_lock(&l1->mu);
    drop_all(l1);
    l1->generation++;
    /* Numbers may begin anew: what is remembered of the old ones would only refuse. */
    memset(l1->evicted, 0, EVICTED_SLOTS * sizeof *l1->evicted);
    l1->floor = 0;
    l1->applied = seq;
    pthread_mutex_unlock(&l1->mu);
}

uint64_t l1_next_seq(struct l1 *l1)
{
    pthread_mutex_lock(&l1->mu);
    uint64_t seq = ++l1->applied;
    pthread_mutex_unlock(&l1->mu);
    return seq;
}

void l1_usage(struct l1 *l1, uint64_t *ret_entries, uint64_t *ret_bytes)
{
    pthread_mutex_lock(&l1->mu);
    *ret_entries = l1->count;
    *ret_bytes = l1->bytes;
    pthread_mutex_unlock(&l1->mu);
}
