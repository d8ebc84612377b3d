/* nearest: which known name was probably meant by a misspelt one. Pure. */
#pragma once

#include <stddef.h>

#define NEAREST_NONE     ((size_t)-1)
#define NEAREST_WORD_MAX 64 /* longer names are not compared */

/* The best candidate so far. Start with {.distance = NEAREST_NONE}. */
struct nearest {
    char name[NEAREST_WORD_MAX + 1]; /* "": none is near enough */
    size_t distance;
};

/** Considers one known name, `word` being the misspelt one. Compared are the names as they are and, for
 * dotted ones, what follows the last dot. */
void nearest_try(struct nearest *nearest, const char *word, const char *known);
