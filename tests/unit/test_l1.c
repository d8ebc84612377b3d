#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "failing_malloc.h"
#include "l1.h"

#define BYTES (1u << 20)

static struct stats stats;
static struct l1 *l1;

static int setup(void **state)
{
    (void)state;
    memset(&stats, 0, sizeof stats);
    l1 = l1_create(BYTES, 42, "tag:", &stats);
    return l1 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    l1_destroy(&l1);
    return 0;
}

static cache_slice text(const char *bytes)
{
    return cache_slice_of(bytes, strlen(bytes));
}

static enum l1_insert insert(const char *key, const char *value, const char *tag, struct l1_token token)
{
    struct l1_meta meta = {.expires_ms = 1000, .fresh_ms = 1000};
    cache_slice tags[1];
    if (tag)
        tags[0] = text(tag);
    return l1_insert(l1, text(key), text(value), tags, tag != NULL, &meta, token, 0);
}

static void *room(void *arg, size_t size)
{
    char *out = arg;
    out[size] = '\0';
    return out;
}

static const char *get(const char *key, uint64_t now)
{
    static char out[4096];
    size_t size;
    struct l1_meta meta;
    return l1_get(l1, text(key), now, room, out, &size, &meta) ? out : NULL;
}

static uint64_t entries(void)
{
    uint64_t count, bytes;
    l1_usage(l1, &count, &bytes);
    return count;
}

static void what_is_inserted_is_found_until_it_expires(void **state)
{
    (void)state;
    assert_int_equal(insert("k", "v", NULL, l1_token(l1)), L1_STORED);
    assert_string_equal(get("k", 999), "v");
    assert_null(get("other", 0));
    assert_null(get("k", 1000));
    assert_int_equal(stats.l1_expired, 1);
    assert_int_equal(entries(), 0);
}

static void a_later_value_replaces_an_earlier_one_and_not_the_other_way_round(void **state)
{
    (void)state;
    struct l1_token early = l1_token(l1), late = early;
    late.as_of = 5;
    assert_int_equal(insert("k", "new", NULL, late), L1_STORED);
    assert_int_equal(insert("k", "old", NULL, early), L1_REFUSED);
    assert_string_equal(get("k", 0), "new");
}

static void a_fill_after_its_keys_eviction_is_refused(void **state)
{
    (void)state;
    struct l1_token token = l1_token(l1);
    l1_evict_key(l1, text("k"), 1);
    assert_int_equal(insert("k", "old", NULL, token), L1_REFUSED);
    assert_int_equal(insert("other", "v", NULL, token), L1_STORED);
    l1_set_applied(l1, 1);
    assert_int_equal(insert("k", "new", NULL, l1_token(l1)), L1_STORED);
}

static void a_fill_after_a_tags_eviction_is_refused(void **state)
{
    (void)state;
    struct l1_token token = l1_token(l1);
    l1_evict_tag(l1, text("t"), 1);
    assert_true(l1_is_overtaken(l1, text("k"), (cache_slice[]){text("t")}, 1, token));
    assert_int_equal(insert("k", "old", "t", token), L1_REFUSED);
    assert_int_equal(insert("k", "v", "other", token), L1_STORED);
}

static void an_eviction_spares_what_is_newer_than_it(void **state)
{
    (void)state;
    struct l1_token own = l1_token(l1);
    own.as_of = 3; /* what one's own write returned */
    assert_int_equal(insert("k", "v", "t", own), L1_STORED);
    l1_evict_key(l1, text("k"), 3);
    l1_evict_tag(l1, text("t"), 3);
    assert_string_equal(get("k", 0), "v");
    l1_evict_tag(l1, text("t"), 4);
    assert_null(get("k", 0));
}

/* One's own eviction, while the broadcasts lag behind one's own writes. */
static void what_is_forgotten_goes_however_new_it_is(void **state)
{
    (void)state;
    struct l1_token before = l1_token(l1), own = before;
    own.as_of = 10;
    assert_int_equal(insert("k", "v", NULL, own), L1_STORED);
    assert_int_equal(insert("tagged", "v", "t", own), L1_STORED);
    l1_forget_key(l1, text("k"));
    l1_forget_tag(l1, text("t"));
    assert_null(get("k", 0));
    assert_null(get("tagged", 0));
    assert_int_equal(insert("k", "old", NULL, before), L1_REFUSED);
    l1_set_applied(l1, 1);
    assert_int_equal(insert("k", "new", NULL, l1_token(l1)), L1_STORED);
}

static void evicting_a_tag_takes_its_members_and_nothing_else(void **state)
{
    (void)state;
    char key[32], tag[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        snprintf(tag, sizeof tag, "t%d", i % 10);
        assert_int_equal(insert(key, "v", tag, l1_token(l1)), L1_STORED);
    }
    l1_evict_tag(l1, text("t3"), 1);
    assert_int_equal(entries(), 900);
    assert_int_equal(stats.l1_evicted_tag, 100);
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(get(key, 0) == NULL, i % 10 == 3);
    }
}

static void a_pattern_takes_keys_and_tags_by_their_redis_names(void **state)
{
    (void)state;
    struct l1_token token = l1_token(l1);
    insert("post:1", "v", NULL, token);
    insert("home", "v", "author:4:posts", token);
    insert("other", "v", "label:c", token);
    l1_evict_glob(l1, text("post:*"), 1);
    l1_evict_glob(l1, text("tag:author:*:posts"), 1);
    assert_null(get("post:1", 0));
    assert_null(get("home", 0));
    assert_string_equal(get("other", 0), "v");
    assert_int_equal(insert("anything", "old", NULL, token),
                     L1_REFUSED); /* nobody can say what a pattern covers */
}

static void clearing_refuses_every_fill_begun_before(void **state)
{
    (void)state;
    struct l1_token before = l1_token(l1);
    insert("k", "v", "t", before);
    l1_clear(l1, 0);
    assert_int_equal(entries(), 0);
    before.as_of = 1000;
    assert_int_equal(insert("k", "old", NULL, before), L1_REFUSED);
    assert_int_equal(insert("k", "new", NULL, l1_token(l1)), L1_STORED);
}

static void the_bound_holds_and_the_least_recently_used_goes_first(void **state)
{
    (void)state;
    char key[32], value[1000];
    uint64_t count, bytes;
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    insert("kept", "v", "t", l1_token(l1));
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(insert(key, value, key, l1_token(l1)), L1_STORED);
        assert_non_null(get("kept", 0));
        l1_usage(l1, &count, &bytes);
        assert_true(bytes <= BYTES);
    }
    assert_null(get("k0", 0));
    assert_non_null(get("k4999", 0));
    assert_true(stats.l1_evicted_size > 3000);
}

static void what_is_too_large_is_not_stored(void **state)
{
    (void)state;
    static char large[BYTES / 16];
    struct l1_meta meta = {.expires_ms = 1000};
    assert_int_equal(
        l1_insert(l1, text("k"), cache_slice_of(large, sizeof large), NULL, 0, &meta, l1_token(l1), 0),
        L1_TOO_LARGE);
    assert_int_equal(entries(), 0);
}

static void binary_keys_and_empty_values_work(void **state)
{
    (void)state;
    struct l1_meta meta = {.expires_ms = 1000};
    size_t size = 7;
    char out[8];
    assert_int_equal(
        l1_insert(l1, cache_slice_of("a\0b", 3), cache_slice_of(NULL, 0), NULL, 0, &meta, l1_token(l1), 0),
        L1_STORED);
    assert_true(l1_get(l1, cache_slice_of("a\0b", 3), 0, room, out, &size, &meta));
    assert_int_equal(size, 0);
    assert_false(l1_get(l1, cache_slice_of("a\0c", 3), 0, room, out, &size, &meta));
}

static void a_failed_allocation_leaves_it_whole(void **state)
{
    (void)state;
    bool has_failed = true;
    for (long n = 0; has_failed; n++) {
        char key[32];
        snprintf(key, sizeof key, "key%ld", n);
        failing_malloc_arm(n);
        enum l1_insert result = insert(key, "v", key, l1_token(l1));
        has_failed = failing_malloc_disarm();
        assert_int_equal(result, has_failed ? L1_NO_MEMORY : L1_STORED);
        assert_int_equal(get(key, 0) != NULL, !has_failed);
    }
    assert_int_equal(entries(), 1);
    has_failed = true;
    for (long n = 0; has_failed; n++) {
        failing_malloc_arm(n);
        struct l1 *other = l1_create(BYTES, 1, "tag:", &stats);
        has_failed = failing_malloc_disarm();
        assert_int_equal(other == NULL, has_failed);
        l1_destroy(&other);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_inserted_is_found_until_it_expires),
        TEST(a_later_value_replaces_an_earlier_one_and_not_the_other_way_round),
        TEST(a_fill_after_its_keys_eviction_is_refused),
        TEST(a_fill_after_a_tags_eviction_is_refused),
        TEST(an_eviction_spares_what_is_newer_than_it),
        TEST(what_is_forgotten_goes_however_new_it_is),
        TEST(evicting_a_tag_takes_its_members_and_nothing_else),
        TEST(a_pattern_takes_keys_and_tags_by_their_redis_names),
        TEST(clearing_refuses_every_fill_begun_before),
        TEST(the_bound_holds_and_the_least_recently_used_goes_first),
        TEST(what_is_too_large_is_not_stored),
        TEST(binary_keys_and_empty_values_work),
        TEST(a_failed_allocation_leaves_it_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
