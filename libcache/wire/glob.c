#include "glob.h"

#include <string.h>

/* Does one element of the pattern match c? *ret_next: where the next element begins. Ranges compare plain
 * chars, as Redis does: bytes above 127 come first where char is signed. */
static bool match_one(const char *glob, size_t size, size_t at, char c, size_t *ret_next)
{
    if (glob[at] == '?') {
        *ret_next = at + 1;
        return true;
    }
    if (glob[at] == '\\' && at + 1 < size) {
        *ret_next = at + 2;
        return glob[at + 1] == c;
    }
    if (glob[at] != '[') {
        *ret_next = at + 1;
        return glob[at] == c;
    }
    size_t i = at + 1;
    bool is_negated = i < size && glob[i] == '^';
    bool found = false;
    i += is_negated;
    while (i < size && glob[i] != ']') {
        if (glob[i] == '\\' && i + 1 < size) {
            found |= glob[i + 1] == c;
            i += 2;
        } else if (i + 2 < size && glob[i + 1] == '-') {
            char low = glob[i], high = glob[i + 2];
            found |= low <= high ? (c >= low && c <= high) : (c >= high && c <= low);
            i += 3;
        } else {
            found |= glob[i] == c;
            i++;
        }
    }
    *ret_next = i < size ? i + 1 : size;
    return found != is_negated;
}

/* Only the last '*' ever needs another try: O(glob_size * size) at worst, no recursion. */
bool glob_match(const char *glob, size_t glob_size, const char *text, size_t size)
{
    size_t g = 0, t = 0, star = glob_size + 1, star_text = 0;
    while (t < size) {
        size_t next;
        if (g < glob_size && glob[g] == '*') {
            star = g++;
            star_text = t;
        } else if (g < glob_size && match_one(glob, glob_size, g, text[t], &next)) {
            g = next;
            t++;
        } else if (star <= glob_size) {
            g = star + 1;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (g < glob_size && glob[g] == '*')
        g++;
    return g == glob_size;
}

size_t glob_escape(const char *text, size_t size, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        if (strchr("*?[]\\^", text[i]) && text[i])
            out[n++] = '\\';
        out[n++] = text[i];
    }
    return n;
}
