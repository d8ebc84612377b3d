/* Any text is a URL with every part in its bounds, or is refused with a reason. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "redis_url.h"

#undef NDEBUG
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct redis_url url;
    char error[256] = "", printed[600];
    char *text = malloc(size + 1);
    assert(text);
    memcpy(text, data, size);
    text[size] = '\0';
    if (redis_url_parse(text, &url, error, sizeof error) == 0) {
        assert(memchr(url.host, '\0', sizeof url.host) && memchr(url.path, '\0', sizeof url.path));
        assert(memchr(url.user, '\0', sizeof url.user) && memchr(url.password, '\0', sizeof url.password));
        assert(!url.host[0] != !url.path[0]); /* one of them */
        assert(url.port > 0 && url.port < 65536 && url.db >= 0);
        redis_url_print(&url, printed, sizeof printed);
        assert(printed[0]);
    } else {
        assert(error[0]);
    }
    free(text);
    return 0;
}
