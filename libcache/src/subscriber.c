#include "subscriber.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "broadcast.h"
#include "clock.h"
#include "connection.h"
#include "follow.h"
#include "invalidate.h"
#include "resp.h"

#define POLL_HEAD_MAX_MS 500
#define BACKOFF_MIN_MS   50
#define BACKOFF_MAX_MS   1000
#define LOG_PAGE         "100"
#define LOG_PAGES_MAX    1000 /* a log that grows faster than it is read is as good as lost */
#define BEAT_SILENCE_MS  5000
#define SWEEP            "20" /* tag sets looked at with every reading of the head */

struct subscriber {
    /* set at creation */
    struct redis_url url;
    const struct names *names;
    char *ns;
    struct l1 *l1;
    struct stats *stats;
    uint32_t timeout_ms, staleness_ms, poll_head_ms;
    char new_epoch[EPOCH_SIZE];
    int wake_fd; /* written once, to stop */
    pthread_t thread;

    /* subscriber's thread only */
    struct connection subscription, head;
    struct json_document document;
    struct resp out;
    bool is_head_asked;
    uint64_t head_asked_ms, next_head_ms, applied_when_asked;
    uint64_t beat, beat_since_ms;
    bool is_silence_counted;
    uint64_t applying; /* number of the eviction in work */
    bool was_connected;

    /* release by the thread after it has applied; acquire by readers before they look into L1 */
    _Atomic uint64_t trusted_until_ms;

    /* under mu; the thread alone writes follow, so it reads it without */
    pthread_mutex_t mu;
    pthread_cond_t confirmed;
    struct follow follow;
};

/* --- what other threads ask --- */

bool subscriber_is_current(const struct subscriber *subscriber, uint64_t now_ms)
{
    return now_ms < atomic_load_explicit(&subscriber->trusted_until_ms, memory_order_acquire);
}

bool subscriber_wait(struct subscriber *subscriber, uint32_t timeout_ms)
{
    struct timespec deadline = clock_after(timeout_ms);
    pthread_mutex_lock(&subscriber->mu);
    while (!subscriber_is_current(subscriber, clock_ms()) &&
           pthread_cond_timedwait(&subscriber->confirmed, &subscriber->mu, &deadline) == 0)
        ;
    pthread_mutex_unlock(&subscriber->mu);
    return subscriber_is_current(subscriber, clock_ms());
}

bool subscriber_follows(struct subscriber *subscriber, const char *run_id)
{
    pthread_mutex_lock(&subscriber->mu);
    bool result = subscriber->follow.is_adopted && strcmp(subscriber->follow.run_id, run_id) == 0;
    pthread_mutex_unlock(&subscriber->mu);
    return result;
}

bool subscriber_follows_epoch(struct subscriber *subscriber, const char *run_id, const char *epoch)
{
    pthread_mutex_lock(&subscriber->mu);
    bool result = subscriber->follow.is_adopted && strcmp(subscriber->follow.run_id, run_id) == 0 &&
                  strcmp(subscriber->follow.epoch, epoch) == 0;
    pthread_mutex_unlock(&subscriber->mu);
    return result;
}

/* --- applying --- */

static void apply_key(void *arg, const void *key, size_t size)
{
    struct subscriber *subscriber = arg;
    l1_evict_key(subscriber->l1, cache_slice_of(key, size), subscriber->applying);
}

static void apply_tag(void *arg, const void *tag, size_t size)
{
    struct subscriber *subscriber = arg;
    if (size <= CACHE_TAG_SIZE_MAX) /* none of ours can be longer */
        l1_evict_tag(subscriber->l1, cache_slice_of(tag, size), subscriber->applying);
}

static void apply_glob(void *arg, const char *glob, size_t size)
{
    struct subscriber *subscriber = arg;
    l1_evict_glob(subscriber->l1, cache_slice_of(glob, size), subscriber->applying);
}

static void set_applied(struct subscriber *subscriber, uint64_t seq)
{
    pthread_mutex_lock(&subscriber->mu);
    follow_applied(&subscriber->follow, seq);
    pthread_mutex_unlock(&subscriber->mu);
    l1_set_applied(subscriber->l1, seq);
}

static void clear(struct subscriber *subscriber, uint64_t seq)
{
    l1_clear(subscriber->l1, seq);
    STATS_INC(subscriber->stats, l1_clears);
}

/* Starts afresh from a head: L1 is dropped, and with it every value read before. */
static void clear_and_adopt(struct subscriber *subscriber, const char *run_id, const char *epoch,
                            uint64_t seq)
{
    pthread_mutex_lock(&subscriber->mu);
    if (subscriber->follow.is_adopted)
        clear(subscriber, seq);
    else
        l1_clear(subscriber->l1, seq); /* the first time: nothing was lost */
    follow_adopt(&subscriber->follow, run_id, epoch, seq);
    pthread_mutex_unlock(&subscriber->mu);
}

static void apply(struct subscriber *subscriber, const struct broadcast *broadcast)
{
    const struct broadcast_handler handler = {apply_key, apply_tag, apply_glob, subscriber};
    subscriber->applying = broadcast->seq;
    if (broadcast->is_flush || broadcast_visit(&subscriber->document, &handler) < 0)
        clear(subscriber, broadcast->seq);
    set_applied(subscriber, broadcast->seq);
}

/* Asks for the head at once: it says whether something is missing, and from where on. */
static void hurry_head(struct subscriber *subscriber)
{
    subscriber->next_head_ms = 0;
}

static void hear(struct subscriber *subscriber, const char *text, size_t size)
{
    struct broadcast broadcast;
    const struct follow *follow = &subscriber->follow;
    STATS_INC(subscriber->stats, broadcasts);
    if (broadcast_parse(&subscriber->document, text, size, subscriber->ns, &broadcast) < 0) {
        STATS_INC(subscriber->stats, broadcasts_bad);
        clear(subscriber, follow->applied);
        hurry_head(subscriber);
        return;
    }
    switch (follow_broadcast(follow, broadcast.epoch, broadcast.seq)) {
    case FOLLOW_APPLY:
        apply(subscriber, &broadcast);
        break;
    case FOLLOW_REPLAY:
        STATS_INC(subscriber->stats, gaps);
        hurry_head(subscriber);
        break;
    case FOLLOW_CLEAR:
        clear_and_adopt(subscriber, subscriber->subscription.run_id, broadcast.epoch, broadcast.seq);
        break;
    default:
        break;
    }
}

/* --- the subscription --- */

static void disconnect(struct subscriber *subscriber)
{
    connection_close(&subscriber->subscription);
    connection_close(&subscriber->head);
    subscriber->is_head_asked = false;
}

/* Takes what has arrived, without waiting. -1: the connection is gone. */
static int take_messages(struct subscriber *subscriber)
{
    redisContext *context = subscriber->subscription.context;
    struct pollfd fd = {context->fd, POLLIN, 0};
    while (poll(&fd, 1, 0) > 0) {
        if (redisBufferRead(context) != REDIS_OK)
            return -1;
        void *any;
        while (redisReaderGetReply(context->reader, &any) == REDIS_OK && any) {
            redisReply *reply = any;
            if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
                reply->element[2]->type == REDIS_REPLY_STRING)
                hear(subscriber, reply->element[2]->str, reply->element[2]->len);
            freeReplyObject(reply);
        }
        if (context->reader->err)
            return -1;
    }
    return 0;
}

static int subscribe(struct subscriber *subscriber)
{
    redisReply *reply = connection_ask(&subscriber->subscription, 2,
                                       (const char *[]){"SUBSCRIBE", subscriber->names->channel});
    int result = reply && reply->type == REDIS_REPLY_ARRAY ? 0 : -1;
    if (reply)
        freeReplyObject(reply);
    return result;
}

/* First the subscription, then the head: what is published between the two is heard. */
static int connect_both(struct subscriber *subscriber)
{
    if (connection_open(&subscriber->subscription, &subscriber->url, subscriber->timeout_ms, 0) < 0 ||
        subscribe(subscriber) < 0 ||
        connection_open(&subscriber->head, &subscriber->url, subscriber->timeout_ms, 1u << SCRIPT_BEAT) < 0 ||
        strcmp(subscriber->subscription.run_id, subscriber->head.run_id) != 0) {
        disconnect(subscriber);
        STATS_INC(subscriber->stats, redis_errors);
        return -1;
    }
    if (subscriber->was_connected)
        STATS_INC(subscriber->stats, reconnects);
    subscriber->was_connected = true;
    hurry_head(subscriber);
    return 0;
}

/* --- the head and the log --- */

static int ask_head(struct subscriber *subscriber, uint64_t now)
{
    struct resp *out = &subscriber->out;
    subscriber->head_asked_ms = now;
    subscriber->applied_when_asked = subscriber->follow.applied;
    subscriber->next_head_ms = now + subscriber->poll_head_ms;
    subscriber->is_head_asked = true;
    resp_clear(out);
    resp_array(out, 8);
    resp_text(out, "EVALSHA");
    resp_text(out, subscriber->head.sha[SCRIPT_BEAT]);
    resp_text(out, "2");
    resp_text(out, subscriber->names->head);
    resp_text(out, subscriber->names->tags);
    resp_text(out, subscriber->new_epoch);
    resp_text(out, SWEEP);
    resp_text(out, "0"); /* raises no beat */
    return out->has_failed ? -1 : connection_send(&subscriber->head, out->data, out->size);
}

/* L1 was as current as the head at the time the head was asked for. */
static void confirm(struct subscriber *subscriber)
{
    pthread_mutex_lock(&subscriber->mu);
    atomic_store_explicit(&subscriber->trusted_until_ms, subscriber->head_asked_ms + subscriber->staleness_ms,
                          memory_order_release);
    pthread_cond_broadcast(&subscriber->confirmed);
    pthread_mutex_unlock(&subscriber->mu);
}

static const redisReply *message_of(const redisReply *entry)
{
    if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2 ||
        entry->element[1]->type != REDIS_REPLY_ARRAY || entry->element[1]->elements < 2 ||
        entry->element[1]->element[1]->type != REDIS_REPLY_STRING)
        return NULL;
    return entry->element[1]->element[1];
}

enum replay { REPLAY_DONE, REPLAY_LOST, REPLAY_BROKEN };

static enum replay replay_entry(struct subscriber *subscriber, const redisReply *entry)
{
    struct broadcast broadcast;
    const redisReply *message = message_of(entry);
    if (!message ||
        broadcast_parse(&subscriber->document, message->str, message->len, subscriber->ns, &broadcast) < 0)
        return REPLAY_LOST;
    switch (follow_log(&subscriber->follow, broadcast.epoch, broadcast.seq)) {
    case FOLLOW_APPLY:
        apply(subscriber, &broadcast);
        STATS_INC(subscriber->stats, replayed);
        return REPLAY_DONE;
    case FOLLOW_SKIP:
        return REPLAY_DONE;
    default:
        return REPLAY_LOST;
    }
}

/* Reads the log from applied + 1 up to `seq`. */
static enum replay replay(struct subscriber *subscriber, uint64_t seq)
{
    for (int page = 0; page < LOG_PAGES_MAX && subscriber->follow.applied < seq; page++) {
        uint64_t before = subscriber->follow.applied;
        char from[32];
        snprintf(from, sizeof from, "%llu-0", (unsigned long long)before + 1);
        redisReply *reply =
            connection_ask(&subscriber->head, 6,
                           (const char *[]){"XRANGE", subscriber->names->log, from, "+", "COUNT", LOG_PAGE});
        enum replay result = REPLAY_DONE;
        if (!reply)
            return REPLAY_BROKEN;
        if (reply->type != REDIS_REPLY_ARRAY)
            result = REPLAY_LOST;
        for (size_t i = 0; result == REPLAY_DONE && i < reply->elements; i++)
            result = replay_entry(subscriber, reply->element[i]);
        freeReplyObject(reply);
        if (result != REPLAY_DONE)
            return result;
        if (subscriber->follow.applied == before)
            return REPLAY_LOST; /* the log has been trimmed to nothing */
    }
    return subscriber->follow.applied >= seq ? REPLAY_DONE : REPLAY_LOST;
}

/* A beat that stands still: no agent reaches this Redis. */
static void watch_beat(struct subscriber *subscriber, uint64_t beat)
{
    uint64_t now = clock_ms();
    if (beat != subscriber->beat) {
        subscriber->beat = beat;
        subscriber->beat_since_ms = now;
        subscriber->is_silence_counted = false;
    } else if (beat && !subscriber->is_silence_counted && now - subscriber->beat_since_ms > BEAT_SILENCE_MS) {
        subscriber->is_silence_counted = true;
        STATS_INC(subscriber->stats, beat_silences);
    }
}

/* {beat, epoch, seq}, as beat.lua answers */
static int use_head(struct subscriber *subscriber, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 ||
        reply->element[0]->type != REDIS_REPLY_INTEGER || reply->element[1]->type != REDIS_REPLY_STRING ||
        reply->element[1]->len >= EPOCH_SIZE || reply->element[2]->type != REDIS_REPLY_INTEGER)
        return -1;
    const char *epoch = reply->element[1]->str;
    uint64_t seq = (uint64_t)reply->element[2]->integer;
    if (strcmp(epoch, subscriber->new_epoch) == 0)
        epoch_random(subscriber->new_epoch); /* taken: another history must get another one */
    watch_beat(subscriber, (uint64_t)reply->element[0]->integer);
    /* What is on its way needs no log. */
    if (take_messages(subscriber) < 0)
        return -1;
    enum follow_action action =
        follow_head(&subscriber->follow, subscriber->head.run_id, epoch, seq, subscriber->applied_when_asked);
    if (action == FOLLOW_REPLAY) {
        enum replay result = replay(subscriber, seq);
        if (result == REPLAY_BROKEN)
            return -1;
        action = result == REPLAY_DONE ? FOLLOW_CURRENT : FOLLOW_CLEAR;
    }
    if (action == FOLLOW_CLEAR)
        clear_and_adopt(subscriber, subscriber->head.run_id, epoch, seq);
    confirm(subscriber);
    return 0;
}

static int take_head(struct subscriber *subscriber)
{
    redisContext *context = subscriber->head.context;
    void *any = NULL;
    if (redisBufferRead(context) != REDIS_OK || redisReaderGetReply(context->reader, &any) != REDIS_OK)
        return -1;
    if (!any)
        return 0; /* not all of it yet */
    subscriber->is_head_asked = false;
    int result = use_head(subscriber, any);
    freeReplyObject(any);
    return result;
}

/* --- the thread --- */

/* Waits for the stop. True: it came. */
static bool wait_stop(struct subscriber *subscriber, int timeout_ms)
{
    struct pollfd fd = {subscriber->wake_fd, POLLIN, 0};
    return poll(&fd, 1, timeout_ms) > 0;
}

static int time_left(uint64_t deadline, uint64_t now)
{
    return deadline > now ? (int)(deadline - now) : 0;
}

/* One wait for either connection, and what came of it. -1: connect anew. */
static int step(struct subscriber *subscriber, bool *ret_stop)
{
    uint64_t now = clock_ms(), patience = subscriber->staleness_ms / 2;
    if (!subscriber->is_head_asked && now >= subscriber->next_head_ms && ask_head(subscriber, now) < 0)
        return -1;
    if (subscriber->is_head_asked && now - subscriber->head_asked_ms >= patience)
        return -1; /* half open, or frozen: another connection may tell */
    uint64_t next =
        subscriber->is_head_asked ? subscriber->head_asked_ms + patience : subscriber->next_head_ms;
    struct pollfd fds[3] = {{subscriber->wake_fd, POLLIN, 0},
                            {subscriber->subscription.context->fd, POLLIN, 0},
                            {subscriber->head.context->fd, POLLIN, 0}};
    if (poll(fds, 3, time_left(next, now)) < 0)
        return 0; /* a signal */
    *ret_stop = fds[0].revents != 0;
    if (fds[1].revents && take_messages(subscriber) < 0)
        return -1;
    if (fds[2].revents && take_head(subscriber) < 0)
        return -1;
    return 0;
}

static int jitter(int ms)
{
    unsigned random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random = 0;
    return ms / 2 + (int)(random % (unsigned)(ms / 2 + 1));
}

static void *subscriber_main(void *arg)
{
    struct subscriber *subscriber = arg;
    int backoff_ms = BACKOFF_MIN_MS;
    bool is_stopping = false;
    while (!is_stopping) {
        if (!subscriber->head.context) {
            if (connect_both(subscriber) < 0) {
                is_stopping = wait_stop(subscriber, jitter(backoff_ms));
                backoff_ms = backoff_ms * 2 < BACKOFF_MAX_MS ? backoff_ms * 2 : BACKOFF_MAX_MS;
                continue;
            }
            backoff_ms = BACKOFF_MIN_MS;
        }
        if (step(subscriber, &is_stopping) < 0) {
            STATS_INC(subscriber->stats, redis_errors);
            disconnect(subscriber);
        }
    }
    disconnect(subscriber);
    json_deinit(&subscriber->document);
    resp_deinit(&subscriber->out);
    return NULL;
}

/* --- life --- */

struct subscriber *subscriber_create(const struct redis_url *url, const struct names *names, const char *ns,
                                     const cache_options *options, struct l1 *l1, struct stats *stats)
{
    struct subscriber *subscriber = calloc(1, sizeof *subscriber);
    pthread_condattr_t monotonic;
    if (!subscriber)
        return NULL;
    subscriber->url = *url;
    subscriber->names = names;
    subscriber->l1 = l1;
    subscriber->stats = stats;
    subscriber->timeout_ms = options->redis_timeout_ms;
    subscriber->staleness_ms = options->max_staleness_ms;
    subscriber->poll_head_ms =
        options->max_staleness_ms / 4 < POLL_HEAD_MAX_MS ? options->max_staleness_ms / 4 : POLL_HEAD_MAX_MS;
    pthread_mutex_init(&subscriber->mu, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&subscriber->confirmed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    epoch_random(subscriber->new_epoch);
    subscriber->ns = strdup(ns);
    subscriber->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (!subscriber->ns || subscriber->wake_fd < 0 ||
        pthread_create(&subscriber->thread, NULL, subscriber_main, subscriber) != 0) {
        if (subscriber->wake_fd >= 0)
            close(subscriber->wake_fd);
        pthread_cond_destroy(&subscriber->confirmed);
        pthread_mutex_destroy(&subscriber->mu);
        free(subscriber->ns);
        free(subscriber);
        return NULL;
    }
    return subscriber;
}

void subscriber_destroy(struct subscriber **subscriber)
{
    if (!subscriber || !*subscriber)
        return;
    struct subscriber *s = *subscriber;
    eventfd_write(s->wake_fd, 1);
    pthread_join(s->thread, NULL);
    close(s->wake_fd);
    pthread_cond_destroy(&s->confirmed);
    pthread_mutex_destroy(&s->mu);
    free(s->ns);
    free(s);
    *subscriber = NULL;
}
