/* glob: patterns over Redis key names, with Redis's own meaning (* ? [a-z] [^x] \x), binary-safe, in bounded
 * time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

bool glob_match(const char *glob, size_t glob_size, const char *text, size_t size);
/** Writes text with the glob characters escaped. @param out room for 2 * size @return bytes written */
size_t glob_escape(const char *text, size_t size, char *out);
