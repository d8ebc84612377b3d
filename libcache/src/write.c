/* write: the public functions that change what is cached: set, write-through, evictions. */
#include "cache_internal.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"

enum l2_status cache_store_envelope(cache *c, cache_slice key, const struct envelope *envelope,
                                    const struct l2_lease *lease, bool is_write, struct l2_stored *ret_stored)
{
    size_t size = envelope_size(envelope);
    void *bytes = malloc(size);
    if (!bytes)
        return L2_NO_MEMORY;
    envelope_encode(envelope, bytes);
    enum l2_status status =
        l2_store(c->l2, key, cache_slice_of(bytes, size), envelope->tags, envelope->tags_count,
                 (uint64_t)envelope->ttl_ms + envelope->grace_ms, lease, is_write, ret_stored);
    free(bytes);
    return status;
}

static int check_entry(cache *c, cache_slice key, cache_slice value, const cache_slice *tags,
                       size_t tags_count)
{
    if (!c || !cache_is_key(key) || (!value.data && value.size) || tags_count > CACHE_TAGS_MAX ||
        (!tags && tags_count))
        return CACHE_E_INVALID;
    for (size_t i = 0; i < tags_count; i++) {
        if (!tags[i].data || tags[i].size == 0 || tags[i].size > CACHE_TAG_SIZE_MAX)
            return CACHE_E_INVALID;
    }
    return value.size > CACHE_VALUE_SIZE_MAX ? CACHE_E_SIZE : CACHE_OK;
}

static struct envelope envelope_of(const cache *c, cache_slice value, const cache_slice *tags,
                                   size_t tags_count, uint32_t ttl_ms)
{
    return (struct envelope){.ttl_ms = ttl_ms ? ttl_ms : c->options.l2_ttl_ms,
                             .grace_ms = c->options.l2_grace_ms,
                             .payload = value,
                             .tags = tags,
                             .tags_count = (uint32_t)tags_count};
}

static void put_into_l1(cache *c, cache_slice key, const struct envelope *envelope, struct l1_token token)
{
    uint64_t now = clock_ms();
    uint32_t ttl_ms = envelope->ttl_ms < c->options.l1_ttl_ms ? envelope->ttl_ms : c->options.l1_ttl_ms;
    struct l1_meta meta = {.loaded_ms = now, .expires_ms = now + ttl_ms, .fresh_ms = now + envelope->ttl_ms};
    l1_insert(c->l1, key, envelope->payload, envelope->tags, envelope->tags_count, &meta, token, now);
}

/* Without Redis this process is the only one: its own count of evictions does. */
static void evict_locally(cache *c, const cache_slice *key, const cache_slice *tag)
{
    uint64_t seq = l1_next_seq(c->l1);
    if (key)
        l1_evict_key(c->l1, *key, seq);
    if (tag)
        l1_evict_tag(c->l1, *tag, seq);
}

/* This L1 drops it at once, also when Redis could not be told, and refuses values read before. */
static void forget(cache *c, const cache_slice *key, const cache_slice *tag)
{
    if (key)
        l1_forget_key(c->l1, *key);
    if (tag)
        l1_forget_tag(c->l1, *tag);
}

/* What store.lua has done is seen here at once; its broadcast, of the same number, will not evict it again.
 */
static void follow_store(cache *c, cache_slice key, const struct envelope *envelope,
                         const struct l2_stored *stored, uint64_t generation)
{
    if (!cache_may_fill_l1(c, stored->run_id, stored->epoch)) {
        forget(c, &key, NULL);
        return;
    }
    l1_evict_key(c->l1, key, stored->seq);
    if (stored->is_stored)
        put_into_l1(c, key, envelope, (struct l1_token){stored->seq, generation});
}

static int status_of(enum l2_status status)
{
    return status == L2_WRONG_TYPE ? CACHE_E_TYPE : status == L2_NO_MEMORY ? CACHE_E_MEMORY : CACHE_E_REDIS;
}

int cache_set(cache *c, cache_slice key, cache_slice value, const cache_slice *tags, size_t tags_count,
              uint32_t ttl_ms)
{
    struct l2_stored stored;
    int status = check_entry(c, key, value, tags, tags_count);
    if (status != CACHE_OK)
        return status;
    struct envelope envelope = envelope_of(c, value, tags, tags_count, ttl_ms);
    if (!c->l2) {
        evict_locally(c, &key, NULL);
        put_into_l1(c, key, &envelope, l1_token(c->l1));
        return CACHE_OK;
    }
    uint64_t generation = l1_token(c->l1).generation;
    enum l2_status result = cache_store_envelope(c, key, &envelope, NULL, true, &stored);
    if (result != L2_OK) {
        forget(c, &key, NULL);
        return status_of(result);
    }
    follow_store(c, key, &envelope, &stored, generation);
    return stored.has_wrong_type ? CACHE_E_TYPE : CACHE_OK;
}

/* The database's answer is not known, or it failed: nobody may serve the old value as if nothing had
 * happened. */
static int write_failed(cache *c, cache_slice key)
{
    return cache_evict_key(c, key) == CACHE_OK ? CACHE_E_LOADER : CACHE_E_REDIS;
}

/* 1. Take the key's lease over anyone's: fills under way are refused from now on.  2. Store to the
 * database.  3. Under the lease, and unless a tag was evicted since, store the value; else remove the key.
 * Others evict it either way. */
int cache_write(cache *c, cache_slice key, cache_slice value, const cache_slice *tags, size_t tags_count,
                uint32_t ttl_ms, cache_store_fn store, void *arg)
{
    struct l2_lease lease;
    enum l2_leased leased;
    struct l2_stored stored;
    int status = check_entry(c, key, value, tags, tags_count);
    if (status != CACHE_OK)
        return status;
    if (!store)
        return CACHE_E_INVALID;
    struct envelope envelope = envelope_of(c, value, tags, tags_count, ttl_ms);
    struct l1_token token = l1_token(c->l1);
    if (!c->l2) {
        uint64_t before = l1_next_seq(c->l1); /* two writers at once: the later beginning wins, or neither */
        l1_evict_key(c->l1, key, before);
        token.as_of = before;
        if (store(key, value, arg) != CACHE_OK) {
            evict_locally(c, &key, NULL);
            return CACHE_E_LOADER;
        }
        put_into_l1(c, key, &envelope, token);
        return CACHE_OK;
    }
    enum l2_status result = l2_lease(c->l2, key, L2_TAKE, &leased, &lease);
    if (result != L2_OK)
        return status_of(result);
    if (store(key, value, arg) != CACHE_OK)
        return write_failed(c, key);
    result = cache_store_envelope(c, key, &envelope, &lease, true, &stored);
    if (result != L2_OK) /* the database has the value: at least the old one must go. That may work where
                            storing did not */
        return cache_evict_key(c, key);
    follow_store(c, key, &envelope, &stored, token.generation);
    return stored.has_wrong_type ? CACHE_E_TYPE : CACHE_OK;
}

static int evict(cache *c, const cache_slice *key, const cache_slice *tag)
{
    uint64_t seq;
    if (!c->l2) {
        evict_locally(c, key, tag);
        return CACHE_OK;
    }
    enum l2_status status = l2_invalidate(c->l2, key, tag, &seq);
    forget(c, key, tag);
    /* A fill of this process that Redis took just before may still be on its way here: its number is lower.
     */
    if (status == L2_OK && key)
        l1_evict_key(c->l1, *key, seq);
    if (status == L2_OK && tag)
        l1_evict_tag(c->l1, *tag, seq);
    return status == L2_OK ? CACHE_OK : status == L2_NO_MEMORY ? CACHE_E_MEMORY : CACHE_E_REDIS;
}

int cache_evict_key(cache *c, cache_slice key)
{
    return c && cache_is_key(key) ? evict(c, &key, NULL) : CACHE_E_INVALID;
}

int cache_evict_tag(cache *c, cache_slice tag)
{
    if (!c || !tag.data || tag.size == 0 || tag.size > CACHE_TAG_SIZE_MAX)
        return CACHE_E_INVALID;
    return evict(c, NULL, &tag);
}
