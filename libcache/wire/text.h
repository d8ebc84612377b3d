/* text: UTF-8 and base64, for names that travel in JSON. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/** Is this well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates)? */
bool utf8_is_valid(const char *text, size_t size);

/** Length of the base64 of so many bytes (RFC 4648, with padding). */
size_t base64_size(size_t size);
void base64_encode(const void *data, size_t size, char *out);
/** @param out room for size / 4 * 3 bytes @return bytes written, or -1: not base64 */
long base64_decode(const char *text, size_t size, void *out);
