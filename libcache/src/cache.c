/* cache: the public functions that read. A get walks: L1, then the flight of its key (one load per process),
 * then L2, then the lease (one load per fleet), the loader, and back through L2 into L1. write.c has the
 * functions that change. */
#include "cache_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clock.h"
#include "envelope.h"
#include "load.h"
#include "value.h"
#include "xfetch.h"

#define LEASE_WAIT_MIN_MS 2
#define LEASE_WAIT_MAX_MS 50
#define FLIGHTS_MAX       4 /* tries to join a flight that no eviction overtakes */

/* --- time and chance --- */

static uint32_t random_u32(void)
{
    static _Thread_local uint64_t state; /* splitmix64: Steele, Lea, Flood, OOPSLA 2014 */
    if (!state && getrandom(&state, sizeof state, 0) != sizeof state)
        state = clock_ms();
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

static double random_share(void)
{
    return ((double)random_u32() + 1) / 4294967296.0;
}

static void pause_ms(uint32_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

/* --- L1 --- */

/* May L1 answer, and is what it says then to be marked stale? */
static bool may_ask_l1(const cache *c, uint64_t now, bool *ret_is_stale)
{
    *ret_is_stale = false;
    if (!c->subscriber || subscriber_is_current(c->subscriber, now))
        return true;
    *ret_is_stale = true;
    return c->options.outage == CACHE_OUTAGE_SERVE;
}

bool cache_may_fill_l1(cache *c, const char *run_id, const char *epoch)
{
    if (!c->subscriber)
        return true;
    if (!run_id) /* loaded without Redis */
        return c->options.outage == CACHE_OUTAGE_SERVE;
    return epoch ? subscriber_follows_epoch(c->subscriber, run_id, epoch)
                 : subscriber_follows(c->subscriber, run_id);
}

struct found {
    size_t size;
    struct l1_meta meta;
    bool is_stale;
};

static bool ask_l1(cache *c, cache_slice key, l1_room_fn room, void *arg, struct found *ret_found)
{
    uint64_t now = clock_ms();
    if (!may_ask_l1(c, now, &ret_found->is_stale) ||
        !l1_get(c->l1, key, now, room, arg, &ret_found->size, &ret_found->meta))
        return false;
    STATS_INC(&c->stats, l1_hits);
    if (ret_found->is_stale)
        STATS_INC(&c->stats, stale_served);
    return true;
}

static void describe(cache_info *info, const struct found *found)
{
    uint64_t now = clock_ms();
    info->size = found->size;
    info->level = CACHE_LEVEL_L1;
    info->age_ms = now > found->meta.loaded_ms ? now - found->meta.loaded_ms : 0;
    info->is_stale = found->is_stale;
}

static void *value_room(void *arg, size_t size)
{
    cache_value **value = arg;
    *value = value_create(size);
    return *value ? value_bytes(*value) : NULL;
}

/* CACHE_OK, CACHE_NOT_FOUND, CACHE_MISS, CACHE_E_MEMORY */
static int value_from_l1(cache *c, cache_slice key, cache_value **ret_value, struct found *ret_found)
{
    cache_value *value = NULL;
    if (!ask_l1(c, key, value_room, &value, ret_found))
        return CACHE_MISS;
    if (!value)
        return CACHE_E_MEMORY;
    if (ret_found->meta.is_not_found) {
        cache_value_free(&value);
        return CACHE_NOT_FOUND;
    }
    describe(&value->info, ret_found);
    *ret_value = value;
    return CACHE_OK;
}

/* --- L2 --- */

/* A value of L2 becomes a caller's value, and goes to L1 unless something that evicts it was applied since
 * the token. */
static int value_from_l2(cache *c, cache_slice key, const struct l2_value *l2, struct l1_token token,
                         cache_value **ret_value)
{
    struct envelope envelope;
    cache_slice tags[CACHE_TAGS_MAX];
    uint64_t now = clock_ms(), left_ms, age_ms = 0, l1_ttl_ms = c->options.l1_ttl_ms;
    enum envelope_kind kind = envelope_decode(l2->data, l2->size, &envelope);
    if (kind == ENVELOPE_BAD)
        return CACHE_MISS; /* a load will put a good one in its place */
    if (kind == ENVELOPE_RAW) {
        envelope = (struct envelope){.payload = cache_slice_of(l2->data, l2->size)};
        left_ms = l2->left_ms < 0 ? UINT32_MAX : (uint64_t)l2->left_ms;
        /* Its tags are known to Redis only: no broadcast of a tag can find it here, so it must not stay. */
        if (l1_ttl_ms > c->options.max_staleness_ms)
            l1_ttl_ms = c->options.max_staleness_ms;
    } else {
        /* Only durations of Redis's one clock are used, never a wall clock of another host. */
        int64_t left = l2->left_ms < 0 ? envelope.ttl_ms : l2->left_ms - (int64_t)envelope.grace_ms;
        left_ms = left > 0 ? (uint64_t)left : 0;
        age_ms = envelope.ttl_ms > left_ms ? envelope.ttl_ms - left_ms : 0;
        if (left < 0)
            age_ms += (uint64_t)-left;
        envelope_tags(l2->data, &envelope, tags);
    }
    bool is_stale = left_ms == 0;
    if (!is_stale && cache_may_fill_l1(c, l2->run_id, NULL)) {
        struct l1_meta meta = {.loaded_ms = now - age_ms,
                               .expires_ms = now + (left_ms < l1_ttl_ms ? left_ms : l1_ttl_ms),
                               .fresh_ms = now + left_ms,
                               .cost_ms = envelope.cost_ms,
                               .is_not_found = envelope.is_not_found};
        l1_insert(c->l1, key, envelope.payload, tags, envelope.tags_count, &meta, token, now);
    }
    if (envelope.is_not_found)
        return is_stale ? CACHE_MISS : CACHE_NOT_FOUND;
    cache_value *value = value_create(envelope.payload.size);
    if (!value)
        return CACHE_E_MEMORY;
    if (envelope.payload.size)
        memcpy(value_bytes(value), envelope.payload.data, envelope.payload.size);
    value->info.level = CACHE_LEVEL_L2;
    value->info.age_ms = age_ms;
    value->info.is_stale = is_stale;
    *ret_value = value;
    return CACHE_OK;
}

/* CACHE_OK, CACHE_NOT_FOUND, CACHE_MISS (Redis away too, see *ret_is_away), CACHE_E_MEMORY, CACHE_E_TYPE */
static int ask_l2(cache *c, cache_slice key, cache_value **ret_value, bool *ret_is_away)
{
    struct l2_value l2 = {.reply = NULL};
    *ret_is_away = !c->l2;
    if (!c->l2)
        return CACHE_MISS;
    struct l1_token token = l1_token(c->l1); /* noted before the question leaves */
    enum l2_status status = l2_get(c->l2, key, &l2);
    *ret_is_away = status == L2_AWAY;
    if (status == L2_WRONG_TYPE)
        return CACHE_E_TYPE;
    if (status != L2_OK)
        return CACHE_MISS;
    int result = value_from_l2(c, key, &l2, token, ret_value);
    l2_value_release(&l2);
    return result;
}

/* --- get --- */

int cache_get_value(cache *c, cache_slice key, cache_value **ret_value)
{
    struct found found;
    bool is_away;
    if (!c || !cache_is_key(key) || !ret_value)
        return CACHE_E_INVALID;
    int status = value_from_l1(c, key, ret_value, &found);
    if (status != CACHE_MISS)
        return status;
    status = ask_l2(c, key, ret_value, &is_away);
    if (status == CACHE_OK || status == CACHE_NOT_FOUND)
        STATS_INC(&c->stats, l2_hits);
    else
        STATS_INC(&c->stats, misses);
    if (status == CACHE_OK && (*ret_value)->info.is_stale)
        STATS_INC(&c->stats, stale_served);
    return status;
}

struct buffer {
    void *data;
    size_t size;
    char none; /* where nothing is copied to */
};

static void *buffer_room(void *arg, size_t size)
{
    struct buffer *buffer = arg;
    if (size == 0)
        return &buffer->none;
    return size <= buffer->size ? buffer->data : NULL;
}

static int tell_size(size_t size, size_t room, cache_info *ret_info)
{
    if (size <= room)
        return CACHE_OK;
    if (ret_info)
        ret_info->size = size;
    return CACHE_E_SIZE;
}

int cache_get(cache *c, cache_slice key, void *buffer, size_t buffer_size, cache_info *ret_info)
{
    struct buffer room = {buffer, buffer_size, 0};
    struct found found;
    cache_value *value = NULL;
    if (!c || !cache_is_key(key) || (!buffer && buffer_size))
        return CACHE_E_INVALID;
    if (ask_l1(c, key, buffer_room, &room, &found)) {
        if (found.meta.is_not_found)
            return CACHE_NOT_FOUND;
        int status = tell_size(found.size, buffer_size, ret_info);
        if (status == CACHE_OK && ret_info)
            describe(ret_info, &found);
        return status;
    }
    bool is_away;
    int status = ask_l2(c, key, &value, &is_away);
    if (status == CACHE_OK || status == CACHE_NOT_FOUND)
        STATS_INC(&c->stats, l2_hits);
    else
        STATS_INC(&c->stats, misses);
    if (status != CACHE_OK)
        return status;
    status = tell_size(value->info.size, buffer_size, ret_info);
    if (status == CACHE_OK) {
        if (value->info.size)
            memcpy(buffer, value->data, value->info.size);
        if (ret_info)
            *ret_info = value->info;
        if (value->info.is_stale)
            STATS_INC(&c->stats, stale_served);
    }
    cache_value_free(&value);
    return status;
}

/* --- get_or_load --- */

/* What one call of get_or_load carries along. */
struct reading {
    cache *c;
    cache_slice key;
    cache_load_fn loader;
    void *arg;
    bool is_refresh;     /* XFetch: the value is there, and shall be replaced before it expires */
    cache_value *stale;  /* past its TTL, within its grace: better than nothing */
    bool is_overtaken;   /* an eviction of the key or its tags came while it was loaded */
    uint64_t generation; /* of L1, before the lease was asked for */
};

static int value_from_load(const struct cache_load *load, cache_value **ret_value)
{
    cache_value *value = value_create(load->value_size);
    if (!value)
        return CACHE_E_MEMORY;
    if (load->value_size)
        memcpy(value_bytes(value), load->value, load->value_size);
    value->info.level = CACHE_LEVEL_LOADER;
    *ret_value = value;
    return CACHE_OK;
}

static uint32_t ttl_of(const cache *c, const struct cache_load *load)
{
    if (load->ttl_ms)
        return load->ttl_ms;
    return load->is_not_found ? c->options.not_found_ttl_ms : c->options.l2_ttl_ms;
}

static void fill_l1(struct reading *reading, const struct cache_load *load, uint32_t cost_ms,
                    struct l1_token token)
{
    cache *c = reading->c;
    uint64_t now = clock_ms();
    uint32_t ttl_ms = ttl_of(c, load);
    struct l1_meta meta = {.loaded_ms = now,
                           .expires_ms =
                               now + (ttl_ms < c->options.l1_ttl_ms ? ttl_ms : c->options.l1_ttl_ms),
                           .fresh_ms = now + ttl_ms,
                           .cost_ms = cost_ms,
                           .is_not_found = load->is_not_found};
    if (ttl_ms > 0)
        l1_insert(c->l1, reading->key, cache_slice_of(load->value, load->value_size), load->tags,
                  load->tags_count, &meta, token, now);
}

/* Puts what was loaded under a lease where it belongs, or nowhere: store.lua refuses when the lease is not
 * ours any more or a tag was fenced since; and when more time went by than the lease lives, by our own clock,
 * we do not even ask. */
static void fill(struct reading *reading, const struct cache_load *load, uint32_t cost_ms,
                 const struct l2_lease *lease)
{
    cache *c = reading->c;
    uint32_t ttl_ms = ttl_of(c, load);
    struct envelope envelope = {.is_not_found = load->is_not_found,
                                .ttl_ms = ttl_ms,
                                .grace_ms = c->options.l2_grace_ms,
                                .cost_ms = cost_ms,
                                .payload = cache_slice_of(load->value, load->value_size),
                                .tags = load->tags,
                                .tags_count = (uint32_t)load->tags_count};
    struct l2_stored stored = {.is_stored = false};
    if (ttl_ms == 0)
        return; /* "not found" is not to be cached; the lease runs out by itself */
    if (clock_ms() - lease->taken_ms < c->options.lease_ms)
        cache_store_envelope(c, reading->key, &envelope, lease, false, &stored);
    if (!stored.is_stored) {
        reading->is_overtaken = true;
        STATS_INC(&c->stats, fills_refused);
        return;
    }
    /* store.lua found no eviction up to this number. */
    if (cache_may_fill_l1(c, stored.run_id, stored.epoch))
        fill_l1(reading, load, cost_ms, (struct l1_token){stored.seq, reading->generation});
}

/* Calls the loader, and stores what it gives: under the lease, or, without one, in L1 alone where that is
 * right. */
static int load_and_fill(struct reading *reading, const struct l2_lease *lease, cache_value **ret_value)
{
    cache *c = reading->c;
    struct cache_load load;
    struct l1_token token = l1_token(c->l1);
    load_init(&load);
    if (!reading->is_refresh)
        STATS_INC(&c->stats, misses);
    uint64_t begin = clock_ms();
    int status = load_run(&load, reading->loader, reading->key, reading->arg);
    uint64_t cost_ms = clock_ms() - begin;
    STATS_INC(&c->stats, loads);
    STATS_ADD(&c->stats, load_ms, cost_ms);
    if (status < 0) {
        STATS_INC(&c->stats, load_failures);
    } else {
        uint32_t cost = cost_ms < UINT32_MAX ? (uint32_t)cost_ms : UINT32_MAX;
        if (lease)
            fill(reading, &load, cost, lease);
        else if (cache_may_fill_l1(c, NULL, NULL))
            fill_l1(reading, &load, cost, token);
        reading->is_overtaken |= l1_is_overtaken(c->l1, reading->key, load.tags, load.tags_count, token);
        if (status == CACHE_OK)
            status = value_from_load(&load, ret_value);
    }
    load_deinit(&load);
    return status;
}

/* Serves what is past its TTL but within its grace, if there is such a value. */
static int serve_stale(struct reading *reading, int status, cache_value **ret_value)
{
    if (!reading->stale || status == CACHE_OK || status == CACHE_NOT_FOUND)
        return status;
    STATS_INC(&reading->c->stats, stale_served);
    *ret_value = reading->stale;
    reading->stale = NULL;
    return CACHE_OK;
}

static uint32_t wait_longer(uint32_t wait_ms)
{
    pause_ms(wait_ms / 2 + random_u32() % (wait_ms / 2 + 1));
    return wait_ms * 2 < LEASE_WAIT_MAX_MS ? wait_ms * 2 : LEASE_WAIT_MAX_MS;
}

/* 1. L2 has it: done.  2. It has not: ask for the lease; granted: load, fill.  3. Another process loads: look
 * again until its value is there, or its lease is free, or has outlived its time.  4. Then, or with Redis
 * away: load, store nothing. */
static int read_through(struct reading *reading, cache_value **ret_value)
{
    cache *c = reading->c;
    uint64_t deadline = clock_ms() + c->options.lease_ms;
    uint32_t wait_ms = LEASE_WAIT_MIN_MS;
    bool is_counted = false, must_look = !reading->is_refresh;
    while (c->l2) {
        struct l2_lease lease;
        enum l2_leased leased;
        bool is_away = false;
        if (must_look) {
            int status = ask_l2(c, reading->key, ret_value, &is_away);
            if (status == CACHE_OK && (*ret_value)->info.is_stale) {
                cache_value_free(&reading->stale);
                reading->stale = *ret_value;
            } else if (status != CACHE_MISS && status != CACHE_E_TYPE) {
                STATS_INC(&c->stats, l2_hits);
                return status;
            } else if (status == CACHE_E_TYPE) {
                break; /* some other application's key: load it, leave that alone */
            }
        }
        if (is_away)
            break;
        reading->generation = l1_token(c->l1).generation;
        enum l2_ask ask = reading->is_refresh || reading->stale ? L2_REFRESH : L2_ASK;
        if (l2_lease(c->l2, reading->key, ask, &leased, &lease) != L2_OK)
            break;
        if (leased == L2_GRANTED)
            return load_and_fill(reading, &lease, ret_value);
        if (leased == L2_HELD) {
            if (reading->is_refresh)
                return CACHE_MISS; /* somebody refreshes it already */
            if (reading->stale)
                return serve_stale(reading, CACHE_MISS, ret_value);
            if (!is_counted)
                STATS_INC(&c->stats, lease_waits);
            is_counted = true;
            if (clock_ms() >= deadline)
                break;
            wait_ms = wait_longer(wait_ms);
        }
        must_look = true;
    }
    return load_and_fill(reading, NULL, ret_value);
}

/* Leads the flight of a key that L1 does not have, or that shall be refreshed. */
static int lead(struct reading *reading, struct flight *flight, cache_value **ret_value)
{
    cache *c = reading->c;
    struct found found;
    cache_value *value = NULL;
    /* Somebody may have landed between our look into L1 and our flight's beginning. */
    int status = reading->is_refresh ? CACHE_MISS : value_from_l1(c, reading->key, &value, &found);
    if (status == CACHE_MISS) {
        status = read_through(reading, &value);
        status = serve_stale(reading, status, &value);
    }
    cache_value_free(&reading->stale);
    flight_end(c->flights, flight, status, value, reading->is_overtaken);
    if (status == CACHE_OK)
        *ret_value = value;
    return status;
}

/* Waits for another thread's flight. True: its result is this caller's too. */
static bool follow_flight(struct reading *reading, struct flight *flight, uint64_t joined_at, int *ret_status,
                          cache_value **ret_value)
{
    cache *c = reading->c;
    bool is_overtaken = false;
    cache_value *value = NULL;
    uint64_t began_at = flight_token(flight).as_of;
    STATS_INC(&c->stats, shared_loads);
    int status = flight_wait(c->flights, flight, 2 * (uint64_t)c->options.lease_ms, &value, &is_overtaken);
    /* Who came after an eviction must not get what was read before it: joined later than it began, and
     * overtaken. */
    if (is_overtaken && joined_at > began_at) {
        cache_value_free(&value);
        return false;
    }
    if (status == CACHE_OK && value->info.level == CACHE_LEVEL_L2)
        STATS_INC(&c->stats, l2_hits);
    else if (status != CACHE_E_TIMEOUT)
        STATS_INC(&c->stats, misses);
    if (status == CACHE_OK)
        *ret_value = value;
    *ret_status = status;
    return status != CACHE_E_TIMEOUT;
}

/* A value in L1 that is near its expiry is refreshed by one caller; the others go on with it. */
static bool is_refresh_due(const cache *c, const struct found *found)
{
    uint64_t now = clock_ms();
    uint64_t left = found->meta.fresh_ms > now ? found->meta.fresh_ms - now : 0;
    return !found->is_stale &&
           xfetch_is_due(left, found->meta.cost_ms, c->options.xfetch_beta, random_share());
}

static int refresh_early(struct reading *reading, cache_value **value)
{
    struct flight *flight;
    cache_value *fresh = NULL;
    if (flight_join(reading->c->flights, reading->c->l1, reading->key, false, &flight) != FLIGHT_LEAD)
        return CACHE_OK; /* somebody is at it already */
    reading->is_refresh = true;
    STATS_INC(&reading->c->stats, early_refreshes);
    if (lead(reading, flight, &fresh) == CACHE_OK) {
        cache_value_free(value);
        *value = fresh;
    }
    return CACHE_OK;
}

int cache_get_or_load(cache *c, cache_slice key, cache_load_fn load, void *arg, cache_value **ret_value)
{
    struct reading reading = {.c = c, .key = key, .loader = load, .arg = arg};
    struct found found;
    cache_value *value = NULL;
    if (!c || !cache_is_key(key) || !load || !ret_value)
        return CACHE_E_INVALID;
    int status = value_from_l1(c, key, &value, &found);
    if (status == CACHE_OK && is_refresh_due(c, &found))
        status = refresh_early(&reading, &value);
    for (int i = 0; status == CACHE_MISS; i++) {
        struct flight *flight;
        uint64_t joined_at = l1_applied(c->l1);
        enum flight_role role = flight_join(c->flights, c->l1, key, true, &flight);
        if (role == FLIGHT_LEAD)
            status = lead(&reading, flight, &value);
        else if (role == FLIGHT_OWN)
            status = CACHE_E_INVALID; /* a loader that asks for its own key would wait for itself */
        else if (role == FLIGHT_NO_MEMORY)
            status = CACHE_E_MEMORY;
        else if (!follow_flight(&reading, flight, joined_at, &status, &value) && i >= FLIGHTS_MAX)
            status = load_and_fill(&reading, NULL, &value);
        else if (status == CACHE_E_TIMEOUT)
            status = CACHE_MISS; /* the leader is lost in its loader: try to lead */
    }
    if (status == CACHE_OK)
        *ret_value = value;
    return status;
}
