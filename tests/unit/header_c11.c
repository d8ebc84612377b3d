/* The public header compiles alone as C11. */
#include <cache/cache.h>

int header_c11(void);
int header_c11(void)
{
    cache_options options = CACHE_OPTIONS_INIT;
    return CACHE_LITERAL("text").size == 4 && options.l1_ttl_ms == 30000;
}
