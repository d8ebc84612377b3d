/* Any bytes as JSON: wire/json must judge and read them as jansson does. */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"
#include "json_oracle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *what = json_oracle_differs((const char *)data, size);
    if (what) {
        fprintf(stderr, "jansson differs: %s\n", what);
        abort();
    }
    return 0;
}
