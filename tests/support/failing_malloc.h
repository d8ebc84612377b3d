/* failing_malloc: makes the nth allocation fail. Link with FAILING_MALLOC_OPTIONS
 * (tests/unit/CMakeLists.txt). Allocations of shared libraries are not seen. One thread. */
#pragma once

#include <stdbool.h>

/** The nth allocation from now on (0 is the next), and none after it, fails. */
void failing_malloc_arm(long nth);
/** @return whether an allocation has failed since it was armed; nothing fails any more */
bool failing_malloc_disarm(void);
