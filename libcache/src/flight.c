#include "flight.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "hash.h"
#include "value.h"

#define BUCKETS 1024

struct flight {
    /* set at the beginning */
    struct l1_token token;
    pthread_t leader;
    uint64_t hash;
    size_t key_size;

    /* under the bucket's mu */
    struct flight *next;
    pthread_cond_t ended;
    unsigned users; /* leader and waiters; the last one frees */
    bool is_listed, has_ended, is_overtaken;
    int status;
    cache_value *value;
    char key[];
};

struct bucket {
    pthread_mutex_t mu;
    struct flight *flights;
};

struct flights {
    uint64_t seed;
    struct bucket buckets[BUCKETS];
};

struct flights *flights_create(uint64_t seed)
{
    struct flights *flights = calloc(1, sizeof *flights);
    if (!flights)
        return NULL;
    flights->seed = seed;
    for (size_t i = 0; i < BUCKETS; i++)
        pthread_mutex_init(&flights->buckets[i].mu, NULL);
    return flights;
}

void flights_destroy(struct flights **flights)
{
    if (!flights || !*flights)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        pthread_mutex_destroy(&(*flights)->buckets[i].mu);
    free(*flights);
    *flights = NULL;
}

static struct bucket *bucket_of(struct flights *flights, uint64_t hash)
{
    return &flights->buckets[hash % BUCKETS];
}

static struct flight *create(cache_slice key, uint64_t hash, struct l1_token token)
{
    struct flight *flight = malloc(sizeof *flight + key.size);
    pthread_condattr_t monotonic;
    if (!flight)
        return NULL;
    memset(flight, 0, sizeof *flight);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&flight->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    flight->token = token;
    flight->leader = pthread_self();
    flight->hash = hash;
    flight->key_size = key.size;
    flight->users = 1;
    memcpy(flight->key, key.data, key.size);
    return flight;
}

/* Locked. */
static void leave(struct flight *flight)
{
    if (--flight->users > 0)
        return;
    pthread_cond_destroy(&flight->ended);
    cache_value_free(&flight->value);
    free(flight);
}

/* Locked. */
static void unlist(struct bucket *bucket, struct flight *flight)
{
    struct flight **at = &bucket->flights;
    if (!flight->is_listed)
        return;
    while (*at != flight)
        at = &(*at)->next;
    *at = flight->next;
    flight->is_listed = false;
}

static struct flight *find(struct bucket *bucket, uint64_t hash, cache_slice key)
{
    struct flight *flight = bucket->flights;
    while (flight && (flight->hash != hash || flight->key_size != key.size ||
                      memcmp(flight->key, key.data, key.size) != 0))
        flight = flight->next;
    return flight;
}

enum flight_role flight_join(struct flights *flights, struct l1 *l1, cache_slice key, bool may_wait,
                             struct flight **ret_flight)
{
    uint64_t hash = hash_bytes(flights->seed, key.data, key.size);
    struct bucket *bucket = bucket_of(flights, hash);
    enum flight_role role = FLIGHT_LEAD;
    struct l1_token now = l1_token(l1);
    pthread_mutex_lock(&bucket->mu);
    struct flight *flight = find(bucket, hash, key);
    if (flight && pthread_equal(flight->leader, pthread_self())) {
        role = FLIGHT_OWN;
    } else if (flight &&
               !l1_is_overtaken(l1, key, NULL, 0, flight->token)) { /* lock order: bucket, then L1 */
        flight->users += may_wait;
        role = may_wait ? FLIGHT_WAIT : FLIGHT_TAKEN;
    } else {
        if (flight)
            unlist(bucket, flight); /* it goes on for those who wait already */
        flight = create(key, hash, now);
        if (flight) {
            flight->next = bucket->flights;
            bucket->flights = flight;
            flight->is_listed = true;
        } else {
            role = FLIGHT_NO_MEMORY;
        }
    }
    pthread_mutex_unlock(&bucket->mu);
    *ret_flight = flight;
    return role;
}

struct l1_token flight_token(const struct flight *flight)
{
    return flight->token;
}

void flight_end(struct flights *flights, struct flight *flight, int status, cache_value *value,
                bool is_overtaken)
{
    struct bucket *bucket = bucket_of(flights, flight->hash);
    pthread_mutex_lock(&bucket->mu);
    unlist(bucket, flight);
    flight->has_ended = true;
    flight->status = status;
    flight->is_overtaken = is_overtaken;
    if (status == CACHE_OK && flight->users > 1)
        flight->value = value_share(value);
    pthread_cond_broadcast(&flight->ended);
    leave(flight);
    pthread_mutex_unlock(&bucket->mu);
}

int flight_wait(struct flights *flights, struct flight *flight, uint64_t timeout_ms, cache_value **ret_value,
                bool *ret_overtaken)
{
    struct bucket *bucket = bucket_of(flights, flight->hash);
    struct timespec deadline = clock_after(timeout_ms);
    int status = CACHE_E_TIMEOUT;
    pthread_mutex_lock(&bucket->mu);
    while (!flight->has_ended && pthread_cond_timedwait(&flight->ended, &bucket->mu, &deadline) == 0)
        ;
    if (flight->has_ended) {
        status = flight->status;
        *ret_overtaken = flight->is_overtaken;
        if (status == CACHE_OK)
            *ret_value = value_share(flight->value);
    }
    leave(flight);
    pthread_mutex_unlock(&bucket->mu);
    return status;
}
