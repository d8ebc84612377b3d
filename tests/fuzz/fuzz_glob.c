/* The input: a glob, a line feed, the text. What must hold whatever they are. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "glob.h"

#undef NDEBUG
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *glob = (const char *)data, *feed = size ? memchr(data, '\n', size) : NULL;
    size_t glob_size = feed ? (size_t)(feed - glob) : size;
    const char *text = feed ? feed + 1 : glob;
    size_t text_size = feed ? size - glob_size - 1 : 0;
    char *other = malloc(2 * size + 3);
    assert(other);

    size_t escaped_size = glob_escape(text, text_size, other);
    assert(glob_match(other, escaped_size, text, text_size)); /* an escaped name matches itself */
    other[escaped_size] = 'x';
    assert(!glob_match(other, escaped_size + 1, text, text_size));

    bool is_match = glob_match(glob, glob_size, text, text_size);
    bool is_plain = true;
    for (size_t i = 0; i < glob_size; i++)
        is_plain &= !memchr("*?[\\", glob[i], 4);
    if (is_plain)
        assert(is_match == (glob_size == text_size && memcmp(glob, text, text_size) == 0));

    other[0] = '*'; /* a star more in front matches no less */
    if (glob_size)
        memcpy(other + 1, glob, glob_size);
    assert(!is_match || glob_match(other, glob_size + 1, text, text_size));
    free(other);
    return 0;
}
