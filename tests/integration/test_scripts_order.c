/* The scripts together, in random order, against a model that knows which values are stale. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script_calls.h"

/* --- any order of steps: no value loaded before an eviction outlives it ---
 *
 * A clock that ticks with every step stands for the database: a value is the time at which it was read there.
 * An invalidation tells of a write that took place just before its first call; two may be under way at once,
 * call by call. Once its last call is done, no key may hold a value read before that write, if the key was
 * named or the value carries one of the tags. */

#define KEYS      5
#define TAGS      4
#define FILLS     6
#define SEQUENCES 40
#define STEPS     400

struct fill {
    bool is_active, is_write;
    int key, token;
    int64_t seq;
    int64_t read_at; /* 0: a write that has not reached the database yet */
    unsigned tags;
};

struct eviction {
    bool is_active, is_all;
    unsigned keys, tags;
    int64_t written_at;
    size_t next_tag;
};

struct model {
    uint64_t random;
    int64_t now;
    struct fill fills[FILLS];
    struct eviction evictions[2];
    int64_t key_evicted[KEYS], tag_evicted[TAGS], all_evicted;
    unsigned stored_tags[KEYS];
    unsigned tokens;
    unsigned fresh_stored, fresh_refused, stale_refused;
};

static const char *const key_names[KEYS] = {"k0", "k1", "k2", "{x}k3", "k4"};
static const char *const tag_names[TAGS] = {"t0", "t1", "t2", "t3"};

static unsigned dice(struct model *model, unsigned sides)
{
    model->random = model->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(model->random >> 33) % sides;
}

static unsigned some(struct model *model, unsigned count)
{
    unsigned set = 0;
    for (unsigned i = 0; i < count; i++)
        set |= (unsigned)(dice(model, 3) == 0) << i;
    return set;
}

static size_t pick(const char *out[], const char *const all[], unsigned count, unsigned set)
{
    size_t n = 0;
    for (unsigned i = 0; i < count; i++) {
        if (set & (1u << i))
            out[n++] = all[i];
    }
    out[n] = NULL;
    return n;
}

static bool is_stale(const struct model *model, int key, unsigned tags, int64_t read_at)
{
    bool stale = read_at < model->key_evicted[key] || read_at < model->all_evicted;
    for (unsigned i = 0; i < TAGS; i++)
        stale |= (tags & (1u << i)) && read_at < model->tag_evicted[i];
    return stale;
}

static void step_begin_fill(struct model *model)
{
    struct fill *fill = &model->fills[dice(model, FILLS)];
    if (fill->is_active)
        return; /* its process died: the lease stays */
    char token[16];
    int key = (int)dice(model, KEYS);
    bool is_write = dice(model, 4) == 0;
    snprintf(token, sizeof token, "%u", ++model->tokens);
    struct answer answer = lease_as(is_write ? "take" : "ask", key_names[key], token);
    if (strcmp(answer.status, "granted") == 0)
        *fill = (struct fill){true,
                              is_write,
                              key,
                              (int)model->tokens,
                              answer.seq,
                              is_write ? 0 : model->now,
                              some(model, TAGS)};
}

static void step_end_fill(struct model *model)
{
    struct fill *fill = &model->fills[dice(model, FILLS)];
    char token[16], value[24];
    if (!fill->is_active)
        return;
    if (fill->is_write && !fill->read_at) {
        fill->read_at = model->now;
        return;
    }
    snprintf(token, sizeof token, "%d", fill->token);
    snprintf(value, sizeof value, "%lld", (long long)fill->read_at);
    struct store s = {key_names[fill->key], token, value, .seq = fill->seq,
                      .rest = fill->is_write ? "\"keys\":[\"k\"]}" : NULL};
    pick(s.tags, tag_names, TAGS, fill->tags);
    bool was_stale = is_stale(model, fill->key, fill->tags, fill->read_at);
    bool is_in = strcmp(store(s).status, "stored") == 0;
    if (is_in)
        model->stored_tags[fill->key] = fill->tags;
    if (is_in && was_stale)
        fail_msg("a stale fill of %s was stored", s.key);
    if (fill->is_write && fill->read_at > model->key_evicted[fill->key])
        model->key_evicted[fill->key] = fill->read_at;
    model->fresh_stored += is_in;
    model->fresh_refused += !is_in && !was_stale;
    model->stale_refused += !is_in && was_stale;
    fill->is_active = false;
}

static void step_evict(struct model *model)
{
    struct eviction *eviction = &model->evictions[dice(model, 2)];
    if (!eviction->is_active) {
        *eviction = (struct eviction){
            true, dice(model, 20) == 0, some(model, KEYS), some(model, TAGS), model->now, 0};
        if (!(eviction->keys | eviction->tags))
            eviction->tags = 1;
        return;
    }
    struct step step = {.budget = 2,
                        .fences = 1 + dice(model, 6),
                        .all = eviction->is_all ? "all" : "",
                        .parts = {"\"flush\":true}"}};
    size_t tags = pick(step.tags, tag_names, TAGS, eviction->tags);
    pick(step.keys, key_names, KEYS, eviction->keys);
    if (eviction->is_all)
        pick(step.keys, key_names, KEYS, ~0u); /* what a flush finds */
    struct invalidate_result result = invalidate_once(&step, eviction->next_tag);
    if (result.status == INVALIDATE_MORE) {
        assert_true(result.next_tag < tags);
        eviction->next_tag = result.next_tag;
        return;
    }
    int64_t at = eviction->written_at;
    for (unsigned i = 0; i < KEYS; i++) {
        if ((eviction->keys & (1u << i)) && model->key_evicted[i] < at)
            model->key_evicted[i] = at;
    }
    for (unsigned i = 0; i < TAGS; i++) {
        if ((eviction->tags & (1u << i)) && model->tag_evicted[i] < at)
            model->tag_evicted[i] = at;
    }
    if (eviction->is_all && model->all_evicted < at)
        model->all_evicted = at;
    eviction->is_active = false;
}

static void step_other(struct model *model)
{
    int64_t seen[2];
    char name[80], value[24];
    const char *key = key_names[dice(model, KEYS)];
    switch (dice(model, 4)) {
    case 0: /* a lease runs out */
        name[names_lease(&names, key, strlen(key), name)] = '\0';
        freeReplyObject(redis_cmd(&server, "DEL %s", name));
        break;
    case 1: /* another application's member, and with luck its kind of tag set */
        freeReplyObject(redis_cmd(&server, "SADD tag:%s other", tag_names[dice(model, TAGS)]));
        break;
    case 2:
        beat(seen, "20");
        break;
    default: { /* cache_set: what it stores is current */
        unsigned tags = some(model, TAGS);
        int i = (int)dice(model, KEYS);
        snprintf(value, sizeof value, "%lld", (long long)model->now);
        struct store s = {key_names[i], NULL, value, .rest = "\"keys\":[\"k\"]}"};
        pick(s.tags, tag_names, TAGS, tags);
        is_stored(store(s));
        model->stored_tags[i] = tags;
        model->key_evicted[i] = model->now;
        break;
    }
    }
}

static void check_values(const struct model *model, uint64_t sequence, int at)
{
    for (int i = 0; i < KEYS; i++) {
        redisReply *reply = redis_cmd(&server, "GET %s", key_names[i]);
        if (reply->type == REDIS_REPLY_STRING &&
            is_stale(model, i, model->stored_tags[i], strtoll(reply->str, NULL, 10)))
            fail_msg("sequence %llu, step %d: %s holds a stale value", (unsigned long long)sequence, at,
                     key_names[i]);
        freeReplyObject(reply);
    }
}

static void no_stale_value_outlives_its_invalidation_in_any_order(void **state)
{
    unsigned stored = 0, fresh_refused = 0, stale_refused = 0;
    (void)state;
    for (uint64_t sequence = 1; sequence <= SEQUENCES; sequence++) {
        struct model model = {.random = sequence};
        run("FLUSHALL");
        for (int i = 0; i < STEPS; i++) {
            model.now++;
            switch (dice(&model, 8)) {
            case 0:
            case 1:
            case 2:
                step_begin_fill(&model);
                break;
            case 3:
            case 4:
            case 5:
                step_end_fill(&model);
                break;
            case 6:
                step_evict(&model);
                break;
            default:
                if (dice(&model, 3) == 0)
                    step_other(&model);
                else
                    step_evict(&model);
            }
            check_values(&model, sequence, i);
        }
        stored += model.fresh_stored;
        fresh_refused += model.fresh_refused;
        stale_refused += model.stale_refused;
    }
    print_message("%u stored, %u stale refused, %u fresh refused\n", stored, stale_refused, fresh_refused);
    assert_true(stored > SEQUENCES * STEPS / 50); /* it is not that all is refused */
    assert_true(stale_refused > SEQUENCES * STEPS / 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPTS_TEST(no_stale_value_outlives_its_invalidation_in_any_order),
    };
    return cmocka_run_group_tests(tests, scripts_start, scripts_stop);
}
