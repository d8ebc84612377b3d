/* wait: for a condition, with a deadline; time, a free port. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/** Monotonic milliseconds. */
int64_t wait_now_ms(void);

/** One short pause of a polling loop (2 ms). @return false when the time is over */
bool wait_more(int64_t end_ms);

/** Ends the test: the condition did not come true; the message says what was seen instead. */
void wait_failed(const char *file, int line, int64_t deadline_ms, const char *condition, const char *format,
                 ...) __attribute__((format(printf, 5, 6), noreturn));

/** WAIT_FOR(5000, count() == 3, "count is %d", count()): returns as soon as the condition holds, fails the
 * test when it has not within the milliseconds. The message's arguments are evaluated only then. */
#define WAIT_FOR(deadline_ms, condition, ...)                                                                \
    do {                                                                                                     \
        const int64_t wait_end_ = wait_now_ms() + (deadline_ms);                                             \
        while (!(condition)) {                                                                               \
            if (!wait_more(wait_end_))                                                                       \
                wait_failed(__FILE__, __LINE__, (deadline_ms), #condition, __VA_ARGS__);                     \
        }                                                                                                    \
    } while (0)

/** A TCP port of 127.0.0.1 that nobody listens on, below the ephemeral range. Somebody may take it before the
 * caller does: try again with another then. */
uint16_t port_free(void);
