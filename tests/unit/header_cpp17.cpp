/* The public header compiles alone as C++17. */
#include <cache/cache.h>

int main()
{
    cache_options options = CACHE_OPTIONS_INIT;
    return CACHE_LITERAL("text").size == 4 && options.l1_ttl_ms == 30000 && cache_version()[0] ? 0 : 1;
}
