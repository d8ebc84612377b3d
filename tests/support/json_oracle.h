/* json_oracle: is what wire/json reads what jansson reads? For unit tests and fuzzers. */
#pragma once

#include <stddef.h>

/** Parses with both and compares verdicts and values.
 * @return NULL when they agree, else a constant text: what they differ in */
const char *json_oracle_differs(const char *text, size_t size);
