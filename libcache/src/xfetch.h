/* xfetch: shall this read refresh the value before it expires? The nearer the expiry and the longer the load,
 * the likelier; so refreshes spread out instead of all coming at the expiry. Pure. Vattani, Chierichetti,
 * Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/** @param remaining_ms until expiry @param cost_ms of the last load @param beta 1.0 is optimal; 0: never
 * @param random uniform in (0, 1] */
bool xfetch_is_due(uint64_t remaining_ms, uint32_t cost_ms, double beta, double random);
