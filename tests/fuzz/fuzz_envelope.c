#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "envelope.h"

/* What decodes must encode to the very same bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct envelope envelope;
    cache_slice tags[CACHE_TAGS_MAX];
    if (envelope_decode(data, size, &envelope) != ENVELOPE_GOOD)
        return 0;
    envelope_tags(data, &envelope, tags);
    envelope.tags = tags;
    void *again = malloc(size + 1);
    if (envelope_size(&envelope) != size)
        abort();
    envelope_encode(&envelope, again);
    if (memcmp(again, data, size) != 0)
        abort();
    free(again);
    return 0;
}
