#include "value.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct shared_value {
    cache_value value; /* first member */
    _Atomic unsigned references;
    char bytes[];
};

cache_value *value_create(size_t size)
{
    struct shared_value *shared = malloc(sizeof *shared + size + 1);
    if (!shared)
        return NULL;
    memset(&shared->value, 0, sizeof shared->value);
    shared->value.data = shared->bytes;
    shared->value.info.size = size;
    shared->bytes[size] = '\0';
    atomic_init(&shared->references, 1);
    return &shared->value;
}

cache_value *value_share(cache_value *value)
{
    struct shared_value *shared = (struct shared_value *)value;
    atomic_fetch_add_explicit(&shared->references, 1, memory_order_relaxed);
    return value;
}

void *value_bytes(cache_value *value)
{
    return ((struct shared_value *)value)->bytes;
}

void cache_value_free(cache_value **value)
{
    if (!value || !*value)
        return;
    struct shared_value *shared = (struct shared_value *)*value;
    *value = NULL;
    /* acq_rel: whoever frees sees all that the others read done */
    if (atomic_fetch_sub_explicit(&shared->references, 1, memory_order_acq_rel) == 1)
        free(shared);
}
