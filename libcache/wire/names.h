/* names: the Redis names of one namespace, built once. Shared by the agent and libcache. */
#pragma once

#include <stddef.h>

struct names {
    char *head;     /* evict:{ns}:head */
    char *log;      /* evict:{ns}:log */
    char *applied;  /* evict:{ns}:applied */
    char *fence[2]; /* evict:{ns}:fence:0, :1 */
    char *tags;     /* evict:{ns}:tags, the index of tag sets */
    char *channel;  /* evict:{ns} */
    char *ns_json;  /* the namespace as a JSON string, quotes included */
    char *tag_prefix;
    char *lease_prefix;
};

/** @return 0 or -1 (out of memory, or a name of over 64 bytes or with bytes other than A-Z a-z 0-9 . _ : -)
 */
int names_init(struct names *names, const char *ns, const char *tag_prefix, const char *lease_prefix)
    __attribute__((warn_unused_result));
void names_deinit(struct names *names);

/** Name of a key's lease: <lease_prefix>{<key>}; a key with a hash tag of its own lends that, so that both
 * share a cluster slot: lease:{user}:<key>. (Redis Cluster specification, "Hash tags".)
 * @param out room for strlen(lease_prefix) + 2 * size + 4 bytes @return its size in bytes */
size_t names_lease(const struct names *names, const void *key, size_t size, char *out);
