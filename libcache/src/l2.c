#include "l2.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clock.h"

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 1000
#define LOG_LENGTH     4096 /* as the agents' default; the log is trimmed by whoever appends */
#define SCRIPTS        (1u << SCRIPT_LEASE | 1u << SCRIPT_STORE | 1u << SCRIPT_INVALIDATE)

struct slot {
    struct connection connection;
    struct resp out;
    struct slot *next_free;
};

struct l2 {
    /* set at creation */
    struct redis_url url;
    const struct names *names;
    struct stats *stats;
    uint32_t timeout_ms, lease_ms;
    struct slot *slots;
    size_t slots_count;

    /* under mu */
    pthread_mutex_t mu;
    pthread_cond_t freed;
    struct slot *free_slots;
    uint64_t retry_at_ms; /* before: fail fast */
    uint32_t backoff_ms;
};

struct l2 *l2_create(const struct redis_url *url, const struct names *names, const cache_options *options,
                     struct stats *stats)
{
    struct l2 *l2 = calloc(1, sizeof *l2);
    pthread_condattr_t monotonic;
    if (!l2)
        return NULL;
    l2->url = *url;
    l2->names = names;
    l2->stats = stats;
    l2->timeout_ms = options->redis_timeout_ms;
    l2->lease_ms = options->lease_ms;
    l2->backoff_ms = BACKOFF_MIN_MS;
    pthread_mutex_init(&l2->mu, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&l2->freed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    l2->slots_count = options->redis_connections;
    l2->slots = calloc(l2->slots_count, sizeof *l2->slots);
    if (!l2->slots) {
        l2_destroy(&l2);
        return NULL;
    }
    for (size_t i = 0; i < l2->slots_count; i++) {
        l2->slots[i].next_free = l2->free_slots;
        l2->free_slots = &l2->slots[i];
    }
    return l2;
}

void l2_destroy(struct l2 **l2)
{
    if (!l2 || !*l2)
        return;
    for (size_t i = 0; (*l2)->slots && i < (*l2)->slots_count; i++) {
        connection_close(&(*l2)->slots[i].connection);
        resp_deinit(&(*l2)->slots[i].out);
    }
    free((*l2)->slots);
    pthread_cond_destroy(&(*l2)->freed);
    pthread_mutex_destroy(&(*l2)->mu);
    free(*l2);
    *l2 = NULL;
}

/* --- connections --- */

static uint32_t jitter(uint32_t ms)
{
    uint32_t random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random = 0;
    return ms / 2 + random % (ms / 2 + 1);
}

/* A connection that is up, or NULL: Redis is away, or all are in use for longer than one answer may take. */
static struct slot *acquire(struct l2 *l2)
{
    struct timespec deadline = clock_after(l2->timeout_ms);
    bool is_away;
    pthread_mutex_lock(&l2->mu);
    is_away = clock_ms() < l2->retry_at_ms;
    while (!is_away && !l2->free_slots) {
        if (pthread_cond_timedwait(&l2->freed, &l2->mu, &deadline) != 0)
            break;
        is_away = clock_ms() < l2->retry_at_ms;
    }
    struct slot *slot = is_away ? NULL : l2->free_slots;
    if (slot)
        l2->free_slots = slot->next_free;
    pthread_mutex_unlock(&l2->mu);
    return slot;
}

static void release(struct l2 *l2, struct slot *slot)
{
    pthread_mutex_lock(&l2->mu);
    slot->next_free = l2->free_slots;
    l2->free_slots = slot;
    pthread_cond_signal(&l2->freed);
    pthread_mutex_unlock(&l2->mu);
}

static void went_well(struct l2 *l2)
{
    pthread_mutex_lock(&l2->mu);
    l2->backoff_ms = BACKOFF_MIN_MS;
    pthread_mutex_unlock(&l2->mu);
}

static void went_wrong(struct l2 *l2, struct slot *slot)
{
    connection_close(&slot->connection);
    STATS_INC(l2->stats, redis_errors);
    pthread_mutex_lock(&l2->mu);
    l2->retry_at_ms = clock_ms() + jitter(l2->backoff_ms);
    l2->backoff_ms = l2->backoff_ms * 2 < BACKOFF_MAX_MS ? l2->backoff_ms * 2 : BACKOFF_MAX_MS;
    pthread_mutex_unlock(&l2->mu);
}

static int ensure_open(struct l2 *l2, struct slot *slot)
{
    if (slot->connection.context)
        return 0;
    if (connection_open(&slot->connection, &l2->url, l2->timeout_ms, SCRIPTS) == 0) {
        went_well(l2);
        return 0;
    }
    went_wrong(l2, slot);
    return -1;
}

/* Sends what is in slot->out and reads `count` answers. False: the connection is gone. */
static bool exchange(struct l2 *l2, struct slot *slot, redisReply **replies, size_t count)
{
    size_t got = 0;
    if (!slot->out.has_failed && connection_send(&slot->connection, slot->out.data, slot->out.size) == 0) {
        void *reply;
        while (got < count && redisGetReply(slot->connection.context, &reply) == REDIS_OK && reply)
            replies[got++] = reply;
    }
    if (got == count)
        return true;
    while (got > 0)
        freeReplyObject(replies[--got]);
    went_wrong(l2, slot);
    return false;
}

/* What an error answer means here. NOSCRIPT and servers that moved: a new connection loads, and finds, the
 * right one. */
static enum l2_status judge(struct l2 *l2, struct slot *slot, const redisReply *reply)
{
    switch (reply_error(reply)) {
    case REPLY_OK:
        return L2_OK;
    case REPLY_WRONGTYPE:
        return L2_WRONG_TYPE;
    case REPLY_NOSCRIPT:
        connection_close(&slot->connection);
        STATS_INC(l2->stats, redis_errors);
        return L2_AWAY;
    case REPLY_MOVED:
    case REPLY_DENIED:
        went_wrong(l2, slot);
        return L2_AWAY;
    default:
        STATS_INC(l2->stats, redis_errors);
        return L2_AWAY;
    }
}

/* --- reads --- */

enum l2_status l2_get(struct l2 *l2, cache_slice key, struct l2_value *ret_value)
{
    redisReply *replies[2];
    struct slot *slot = acquire(l2);
    enum l2_status status = L2_AWAY;
    if (!slot)
        return L2_AWAY;
    resp_clear(&slot->out);
    resp_array(&slot->out, 2);
    resp_bulk(&slot->out, "GET", 3);
    resp_bulk(&slot->out, key.data, key.size);
    resp_array(&slot->out, 2);
    resp_bulk(&slot->out, "PTTL", 4);
    resp_bulk(&slot->out, key.data, key.size);
    if (ensure_open(l2, slot) == 0 && exchange(l2, slot, replies, 2)) {
        char run_id[RUN_ID_SIZE];
        memcpy(run_id, slot->connection.run_id, sizeof run_id);
        status = judge(l2, slot, replies[0]);
        if (status == L2_OK)
            status = replies[0]->type == REDIS_REPLY_STRING ? L2_OK : L2_MISS;
        /* -2: it expired between the two commands */
        if (status == L2_OK && (replies[1]->type != REDIS_REPLY_INTEGER || replies[1]->integer == -2))
            status = L2_MISS;
        if (status == L2_OK) {
            ret_value->reply = replies[0];
            ret_value->data = replies[0]->str;
            ret_value->size = replies[0]->len;
            ret_value->left_ms = replies[1]->integer;
            memcpy(ret_value->run_id, run_id, sizeof run_id);
        } else {
            freeReplyObject(replies[0]);
        }
        freeReplyObject(replies[1]);
    }
    release(l2, slot);
    return status;
}

void l2_value_release(struct l2_value *value)
{
    if (value->reply)
        freeReplyObject(value->reply);
    value->reply = NULL;
}

/* --- leases and stores --- */

/* A new one with every call: an epoch that was taken once must not be offered to another history. */
static void append_new_epoch(struct resp *out)
{
    char epoch[EPOCH_SIZE];
    epoch_random(epoch);
    resp_text(out, epoch);
}

static void append_lease_name(struct l2 *l2, struct resp *out, cache_slice key)
{
    char *name = malloc(strlen(l2->names->lease_prefix) + 2 * key.size + 4);
    if (!name) {
        out->has_failed = true;
        return;
    }
    resp_bulk(out, name, names_lease(l2->names, key.data, key.size, name));
    free(name);
}

static bool is_text(const redisReply *reply, size_t i, const char *text)
{
    return reply->type == REDIS_REPLY_ARRAY && i < reply->elements &&
           reply->element[i]->type == REDIS_REPLY_STRING && strcmp(reply->element[i]->str, text) == 0;
}

/* Reads {…, seq, epoch} from element i on. */
static bool read_head(const redisReply *reply, size_t i, uint64_t *ret_seq, char ret_epoch[EPOCH_SIZE])
{
    if (i + 1 >= reply->elements || reply->element[i]->type != REDIS_REPLY_INTEGER ||
        reply->element[i + 1]->type != REDIS_REPLY_STRING || reply->element[i + 1]->len >= EPOCH_SIZE)
        return false;
    *ret_seq = (uint64_t)reply->element[i]->integer;
    snprintf(ret_epoch, EPOCH_SIZE, "%s", reply->element[i + 1]->str);
    return true;
}

enum l2_status l2_lease(struct l2 *l2, cache_slice key, enum l2_ask ask, enum l2_leased *ret_leased,
                        struct l2_lease *ret_lease)
{
    static const char *const words[] = {"ask", "refresh", "take"};
    struct l2_lease lease = {.taken_ms = clock_ms()};
    redisReply *reply;
    struct slot *slot = acquire(l2);
    enum l2_status status = L2_AWAY;
    if (!slot)
        return L2_AWAY;
    epoch_random(lease.token); /* as random as an epoch */
    if (ensure_open(l2, slot) < 0)
        goto out;
    resp_clear(&slot->out);
    resp_array(&slot->out, 3 + 3 + 4);
    resp_text(&slot->out, "EVALSHA");
    resp_text(&slot->out, slot->connection.sha[SCRIPT_LEASE]);
    resp_number(&slot->out, 3);
    resp_text(&slot->out, l2->names->head);
    resp_bulk(&slot->out, key.data, key.size);
    append_lease_name(l2, &slot->out, key);
    append_new_epoch(&slot->out);
    resp_text(&slot->out, lease.token);
    resp_number(&slot->out, l2->lease_ms);
    resp_text(&slot->out, words[ask]);
    if (!exchange(l2, slot, &reply, 1))
        goto out;
    memcpy(lease.run_id, slot->connection.run_id, sizeof lease.run_id);
    status = judge(l2, slot, reply);
    if (status == L2_OK) {
        if (is_text(reply, 0, "granted") && read_head(reply, 1, &lease.seq, lease.epoch)) {
            *ret_leased = L2_GRANTED;
            *ret_lease = lease;
        } else if (is_text(reply, 0, "held")) {
            *ret_leased = L2_HELD;
        } else if (is_text(reply, 0, "value")) {
            *ret_leased = L2_HAS_VALUE;
        } else {
            status = L2_AWAY;
        }
    }
    freeReplyObject(reply);
out:
    release(l2, slot);
    return status;
}

static void append_tag_name(struct l2 *l2, struct resp *out, cache_slice tag)
{
    char name[64 + CACHE_TAG_SIZE_MAX];
    size_t prefix_size = strlen(l2->names->tag_prefix);
    memcpy(name, l2->names->tag_prefix, prefix_size);
    memcpy(name + prefix_size, tag.data, tag.size);
    resp_bulk(out, name, prefix_size + tag.size);
}

/* The rest of the broadcast that evicts one key. */
static int append_broadcast(struct resp *out, cache_slice key)
{
    struct broadcast_writer *writer = broadcast_writer_create();
    int result = -1;
    if (writer && broadcast_writer_add(writer, BROADCAST_KEYS, key.data, key.size) == 0 &&
        broadcast_writer_finish(writer) == 0) {
        size_t size;
        const char *part = broadcast_writer_part(writer, 0, &size);
        resp_bulk(out, part, size);
        result = 0;
    }
    broadcast_writer_destroy(&writer);
    return result;
}

static int encode_store(struct l2 *l2, struct slot *slot, cache_slice key, cache_slice bytes,
                        const cache_slice *tags, size_t tags_count, uint64_t left_ms,
                        const struct l2_lease *lease, bool is_write)
{
    struct resp *out = &slot->out;
    int result = 0;
    resp_clear(out);
    resp_array(out, 3 + 7 + tags_count + 10);
    resp_text(out, "EVALSHA");
    resp_text(out, slot->connection.sha[SCRIPT_STORE]);
    resp_number(out, (int64_t)(7 + tags_count));
    resp_text(out, l2->names->head);
    resp_text(out, l2->names->fence[0]);
    resp_text(out, l2->names->fence[1]);
    resp_text(out, l2->names->tags);
    resp_text(out, l2->names->log);
    resp_bulk(out, key.data, key.size);
    append_lease_name(l2, out, key);
    for (size_t i = 0; i < tags_count; i++)
        append_tag_name(l2, out, tags[i]);
    append_new_epoch(out);
    resp_text(out, lease ? lease->token : "");
    resp_number(out, lease ? (int64_t)lease->seq : 0);
    resp_text(out, lease ? lease->epoch : "");
    resp_bulk(out, bytes.data, bytes.size);
    resp_number(out, (int64_t)left_ms);
    resp_text(out, is_write ? l2->names->channel : "");
    if (is_write)
        result = append_broadcast(out, key);
    else
        resp_text(out, "");
    resp_number(out, LOG_LENGTH);
    resp_text(out, l2->names->ns_json);
    return out->has_failed ? -1 : result;
}

enum l2_status l2_store(struct l2 *l2, cache_slice key, cache_slice bytes, const cache_slice *tags,
                        size_t tags_count, uint64_t left_ms, const struct l2_lease *lease, bool is_write,
                        struct l2_stored *ret_stored)
{
    struct l2_stored stored = {.is_stored = false};
    redisReply *reply;
    struct slot *slot = acquire(l2);
    enum l2_status status = L2_AWAY;
    if (!slot)
        return L2_AWAY;
    if (ensure_open(l2, slot) < 0)
        goto out;
    /* A lease of another server is worth nothing here: its fences may be missing. A write must still tell the
     * others. */
    if (lease && !is_write && strcmp(lease->run_id, slot->connection.run_id) != 0)
        goto out;
    if (encode_store(l2, slot, key, bytes, tags, tags_count, left_ms, lease, is_write) < 0) {
        status = L2_NO_MEMORY;
        goto out;
    }
    if (!exchange(l2, slot, &reply, 1))
        goto out;
    memcpy(stored.run_id, slot->connection.run_id, sizeof stored.run_id);
    status = judge(l2, slot, reply);
    if (status == L2_OK) {
        stored.is_stored = is_text(reply, 0, "stored");
        stored.has_wrong_type =
            is_text(reply, 0, "refused") && (is_text(reply, 1, "tag") || is_text(reply, 1, "type"));
        if (read_head(reply, stored.is_stored ? 1 : 2, &stored.seq, stored.epoch))
            *ret_stored = stored;
        else
            status = L2_AWAY;
    }
    freeReplyObject(reply);
out:
    release(l2, slot);
    return status;
}

/* --- evictions --- */

static int run_invalidate(struct l2 *l2, struct slot *slot, const struct invalidate_call *call,
                          uint64_t *ret_seq, enum l2_status *ret_status)
{
    struct invalidate_result result = {.status = INVALIDATE_MORE};
    while (result.status == INVALIDATE_MORE) {
        size_t first_tag = result.next_tag;
        redisReply *reply;
        resp_clear(&slot->out);
        invalidate_encode(&slot->out, slot->connection.sha[SCRIPT_INVALIDATE], l2->names, call, first_tag);
        if (!exchange(l2, slot, &reply, 1))
            return -1;
        *ret_status = judge(l2, slot, reply);
        result.status = INVALIDATE_BAD;
        if (*ret_status == L2_OK)
            invalidate_decode(reply, first_tag, &result);
        freeReplyObject(reply);
    }
    *ret_seq = result.seq;
    return result.status == INVALIDATE_DONE ? 0 : -1;
}

enum l2_status l2_invalidate(struct l2 *l2, const cache_slice *key, const cache_slice *tag, uint64_t *ret_seq)
{
    struct broadcast_writer *writer = broadcast_writer_create();
    struct invalidate_slice slices[2];
    char epoch[EPOCH_SIZE];
    struct invalidate_call call = {.new_epoch = epoch,
                                   .expected_epoch = "",
                                   .log_length = LOG_LENGTH,
                                   .keys = &slices[0],
                                   .tags = &slices[1],
                                   .broadcast = writer};
    enum l2_status status = L2_NO_MEMORY;
    struct slot *slot = NULL;
    if (!writer)
        return L2_NO_MEMORY;
    epoch_random(epoch);
    if (key) {
        slices[0] = (struct invalidate_slice){key->data, key->size};
        call.keys_count = 1;
        if (broadcast_writer_add(writer, BROADCAST_KEYS, key->data, key->size) < 0)
            goto out;
    }
    if (tag) {
        slices[1] = (struct invalidate_slice){tag->data, tag->size};
        call.tags_count = 1;
        if (broadcast_writer_add(writer, BROADCAST_TAGS, tag->data, tag->size) < 0)
            goto out;
    }
    if (broadcast_writer_finish(writer) < 0)
        goto out;
    status = L2_AWAY;
    slot = acquire(l2);
    if (slot && ensure_open(l2, slot) == 0 && run_invalidate(l2, slot, &call, ret_seq, &status) < 0 &&
        status == L2_OK)
        status = L2_AWAY;
out:
    if (slot)
        release(l2, slot);
    broadcast_writer_destroy(&writer);
    return status;
}
