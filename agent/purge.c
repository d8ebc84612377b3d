#include "purge.h"

#include <stdio.h>
#include <string.h>

#include "evict.h"

#define TIMEOUT_MS 5000

static int add_all(struct broadcast_writer *writer, enum broadcast_kind kind,
                   const struct invalidate_slice *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (broadcast_writer_add(writer, kind, names[i].data, names[i].size) < 0)
            return -1;
    }
    return 0;
}

int purge_run(const struct config *config, const struct invalidate_slice *keys, size_t keys_count,
              const struct invalidate_slice *tags, size_t tags_count)
{
    struct connection connection = {.context = NULL};
    struct names names = {.head = NULL};
    struct invalidate_result result;
    struct redis_url url;
    char epoch[EPOCH_SIZE], error[256];
    struct broadcast_writer *writer = broadcast_writer_create();
    int status = 1;
    if (!writer || names_init(&names, config->namespace_name, config->tag_prefix, config->lease_prefix) < 0 ||
        add_all(writer, BROADCAST_KEYS, keys, keys_count) < 0 ||
        add_all(writer, BROADCAST_TAGS, tags, tags_count) < 0 || broadcast_writer_finish(writer) < 0) {
        fprintf(stderr, "evictd: out of memory\n");
        goto out;
    }
    if (redis_url_parse(config->redis.url, &url, error, sizeof error) < 0) {
        fprintf(stderr, "evictd: redis.url: %s\n", error);
        goto out;
    }
    if (connection_open(&connection, &url, TIMEOUT_MS, 1u << SCRIPT_INVALIDATE) < 0) {
        fprintf(stderr, "evictd: redis: %s\n", connection.error);
        goto out;
    }
    epoch_random(epoch);
    const struct invalidate_call call = {.new_epoch = epoch,
                                         .expected_epoch = "",
                                         .log_length = config->redis.log_length,
                                         .broadcasts_members = config->members,
                                         .tags = tags,
                                         .tags_count = tags_count,
                                         .keys = keys,
                                         .keys_count = keys_count,
                                         .broadcast = writer};
    if (evict_run(&connection, &names, &call, &result) < 0) {
        fprintf(stderr, "evictd: redis: %s\n", connection.error);
        goto out;
    }
    printf("deleted %llu keys through %zu tags, %llu of %zu named keys; broadcast %llu\n",
           (unsigned long long)result.members, tags_count, (unsigned long long)result.keys, keys_count,
           (unsigned long long)result.seq);
    status = 0;
out:
    connection_close(&connection);
    broadcast_writer_destroy(&writer);
    names_deinit(&names);
    return status;
}
