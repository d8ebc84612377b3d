#include "names.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_SIZE_MAX 64

static bool is_plain(const char *name)
{
    size_t size = strlen(name);
    if (size == 0 || size > NAME_SIZE_MAX)
        return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-") == size;
}

static char *joined(const char *before, const char *name, const char *after)
{
    size_t size = strlen(before) + strlen(name) + strlen(after) + 1;
    char *text = malloc(size);
    if (text)
        snprintf(text, size, "%s%s%s", before, name, after);
    return text;
}

int names_init(struct names *names, const char *ns, const char *tag_prefix, const char *lease_prefix)
{
    memset(names, 0, sizeof *names);
    if (!is_plain(ns) || !is_plain(tag_prefix) || !is_plain(lease_prefix))
        return -1;
    names->head = joined("evict:{", ns, "}:head");
    names->log = joined("evict:{", ns, "}:log");
    names->applied = joined("evict:{", ns, "}:applied");
    names->fence[0] = joined("evict:{", ns, "}:fence:0");
    names->fence[1] = joined("evict:{", ns, "}:fence:1");
    names->tags = joined("evict:{", ns, "}:tags");
    names->channel = joined("evict:{", ns, "}");
    names->ns_json = joined("\"", ns, "\"");
    names->tag_prefix = joined(tag_prefix, "", "");
    names->lease_prefix = joined(lease_prefix, "", "");
    if (!names->head || !names->log || !names->applied || !names->fence[0] || !names->fence[1] ||
        !names->tags || !names->channel || !names->ns_json || !names->tag_prefix || !names->lease_prefix) {
        names_deinit(names);
        return -1;
    }
    return 0;
}

void names_deinit(struct names *names)
{
    free(names->head);
    free(names->log);
    free(names->applied);
    free(names->fence[0]);
    free(names->fence[1]);
    free(names->tags);
    free(names->channel);
    free(names->ns_json);
    free(names->tag_prefix);
    free(names->lease_prefix);
    memset(names, 0, sizeof *names);
}

/* The part of a key that decides its slot: what stands between the first '{' and the next '}', if not empty.
 */
static bool find_hash_tag(const char *key, size_t size, const char **ret_tag, size_t *ret_size)
{
    const char *open = memchr(key, '{', size);
    if (!open)
        return false;
    size_t rest = size - (size_t)(open + 1 - key);
    const char *close = memchr(open + 1, '}', rest);
    if (!close || close == open + 1)
        return false;
    *ret_tag = open + 1;
    *ret_size = (size_t)(close - open - 1);
    return true;
}

size_t names_lease(const struct names *names, const void *key, size_t size, char *out)
{
    char *end = out;
    size_t prefix_size = strlen(names->lease_prefix);
    memcpy(end, names->lease_prefix, prefix_size);
    end += prefix_size;
    const char *tag = key;
    size_t tag_size = size;
    bool has_tag = find_hash_tag(key, size, &tag, &tag_size);
    *end++ = '{';
    memcpy(end, tag, tag_size);
    end += tag_size;
    *end++ = '}';
    if (has_tag) {
        *end++ = ':';
        memcpy(end, key, size);
        end += size;
    }
    return (size_t)(end - out);
}
