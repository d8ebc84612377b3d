#include "nearest.h"

#include <string.h>

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Damerau-Levenshtein distance in its "optimal string alignment" form: insert, delete, replace, swap
 * neighbours. */
static size_t distance(const char *a, const char *b)
{
    size_t rows[3][NEAREST_WORD_MAX + 1], a_size = strlen(a), b_size = strlen(b);
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    if (a_size > NEAREST_WORD_MAX || b_size > NEAREST_WORD_MAX)
        return NEAREST_NONE;
    for (size_t j = 0; j <= b_size; j++)
        last[j] = before[j] = j;
    for (size_t i = 1; i <= a_size; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            row[j] = min(min(last[j], row[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = min(row[j], before[j - 2] + 1);
        }
        size_t *free_row = before;
        before = last;
        last = row;
        row = free_row;
    }
    return last[b_size];
}

void nearest_try(struct nearest *nearest, const char *word, const char *known)
{
    const char *dot = strrchr(known, '.');
    size_t found = distance(word, known);
    if (dot)
        found = min(found, distance(word, dot + 1));
    /* One slip in a short word, a few in a long one: else it was another word. */
    if (found <= 1 + strlen(word) / 4 && found < nearest->distance && strlen(known) <= NEAREST_WORD_MAX) {
        strcpy(nearest->name, known);
        nearest->distance = found;
    }
}
