/* flight: one load per key in this process, however many ask. The first to ask leads and loads; the others
 * wait for its result. Any thread. */
#pragma once

#include <cache/cache.h>
#include <stdbool.h>

#include "l1.h"

struct flights;
struct flight;

/** @return NULL: out of memory */
struct flights *flights_create(uint64_t seed);
/** No flight may be under way. */
void flights_destroy(struct flights **flights);

enum flight_role {
    FLIGHT_LEAD,
    FLIGHT_WAIT,
    FLIGHT_OWN,   /* this thread leads it already */
    FLIGHT_TAKEN, /* somebody else leads it, and the caller does not want to wait */
    FLIGHT_NO_MEMORY
};

/** Joins the flight of a key or begins one. A flight begun before the key's last eviction is not joined: who
 * asks after an eviction must not get what was read before it.
 * @param ret_flight to be ended by flight_end (lead) or left by flight_wait (wait) */
enum flight_role flight_join(struct flights *flights, struct l1 *l1, cache_slice key, bool may_wait,
                             struct flight **ret_flight);
/** What was applied when the flight began. */
struct l1_token flight_token(const struct flight *flight);

/** The leader's end. @param value shared with all who wait; may be NULL @param is_overtaken an eviction of
 * the key or of a tag of the value came in between */
void flight_end(struct flights *flights, struct flight *flight, int status, cache_value *value,
                bool is_overtaken);
/** Waits for the result. @param ret_overtaken when set, a caller who joined later than the eviction must ask
 * again
 * @return the leader's status, with *ret_value (a reference of the caller's) on CACHE_OK; CACHE_E_TIMEOUT */
int flight_wait(struct flights *flights, struct flight *flight, uint64_t timeout_ms, cache_value **ret_value,
                bool *ret_overtaken);
