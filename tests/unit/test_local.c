/* The public functions without Redis: one process, L1 and loader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cache/cache.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "options.h"
#include "xfetch.h"

static cache *c;

static int setup(void **state)
{
    (void)state;
    return cache_create(NULL, &c);
}

static int teardown(void **state)
{
    (void)state;
    cache_destroy(&c);
    return 0;
}

static int load_value(cache_load *load, cache_slice key, void *arg)
{
    ++*(int *)arg;
    cache_load_tag(load, CACHE_LITERAL("all"));
    return cache_load_value(load, key);
}

static void a_value_is_loaded_once_and_then_comes_from_l1(void **state)
{
    (void)state;
    int loads = 0;
    for (int i = 0; i < 3; i++) {
        cache_value *value;
        assert_int_equal(cache_get_or_load(c, CACHE_LITERAL("key"), load_value, &loads, &value), CACHE_OK);
        assert_int_equal(value->info.size, 3);
        assert_string_equal(value->data, "key");
        assert_int_equal(value->info.level, i ? CACHE_LEVEL_L1 : CACHE_LEVEL_LOADER);
        cache_value_free(&value);
        assert_null(value);
    }
    assert_int_equal(loads, 1);
}

static void evictions_by_key_and_tag_reload(void **state)
{
    (void)state;
    int loads = 0;
    cache_value *value;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cache_get_or_load(c, CACHE_LITERAL("key"), load_value, &loads, &value), CACHE_OK);
        cache_value_free(&value);
        if (i == 0)
            assert_int_equal(cache_evict_key(c, CACHE_LITERAL("key")), CACHE_OK);
        else
            assert_int_equal(cache_evict_tag(c, CACHE_LITERAL("all")), CACHE_OK);
    }
    assert_int_equal(loads, 3);
    assert_int_equal(cache_get_value(c, CACHE_LITERAL("key"), &value), CACHE_MISS);
}

static void a_buffer_that_is_too_small_is_told_the_size(void **state)
{
    (void)state;
    char buffer[8] = "unhurt!";
    cache_info info = {.size = 0};
    assert_int_equal(cache_set(c, CACHE_LITERAL("k"), CACHE_LITERAL("value"), NULL, 0, 0), CACHE_OK);
    assert_int_equal(cache_get(c, CACHE_LITERAL("k"), buffer, 4, &info), CACHE_E_SIZE);
    assert_int_equal(info.size, 5);
    assert_string_equal(buffer, "unhurt!");
    assert_int_equal(cache_get(c, CACHE_LITERAL("k"), NULL, 0, &info), CACHE_E_SIZE);
    assert_int_equal(cache_get(c, CACHE_LITERAL("k"), buffer, 5, &info), CACHE_OK);
    assert_memory_equal(buffer, "value", 5);
    assert_int_equal(info.level, CACHE_LEVEL_L1);
    assert_int_equal(cache_get(c, CACHE_LITERAL("none"), buffer, 5, NULL), CACHE_MISS);
}

static int load_nothing(cache_load *load, cache_slice key, void *arg)
{
    (void)key;
    ++*(int *)arg;
    return cache_load_not_found(load);
}

static void not_found_is_remembered(void **state)
{
    (void)state;
    int loads = 0;
    cache_value *value = NULL;
    for (int i = 0; i < 2; i++)
        assert_int_equal(cache_get_or_load(c, CACHE_LITERAL("k"), load_nothing, &loads, &value),
                         CACHE_NOT_FOUND);
    assert_int_equal(loads, 1);
    assert_null(value);
    assert_int_equal(cache_get_value(c, CACHE_LITERAL("k"), &value), CACHE_NOT_FOUND);
}

static int load_badly(cache_load *load, cache_slice key, void *arg)
{
    (void)key;
    switch (++*(int *)arg) {
    case 1:
        return -1;
    case 2: /* neither a value nor "not found" */
        return CACHE_OK;
    case 3: /* a tag that cannot be: its value could not be evicted by it */
        cache_load_tag(load, CACHE_LITERAL(""));
        return cache_load_value(load, CACHE_LITERAL("v"));
    default:
        return cache_load_value(load, CACHE_LITERAL("good"));
    }
}

static void a_failed_load_is_told_and_not_stored(void **state)
{
    (void)state;
    int calls = 0;
    cache_value *value = NULL;
    for (int i = 0; i < 3; i++)
        assert_int_equal(cache_get_or_load(c, CACHE_LITERAL("k"), load_badly, &calls, &value),
                         CACHE_E_LOADER);
    assert_int_equal(cache_get_or_load(c, CACHE_LITERAL("k"), load_badly, &calls, &value), CACHE_OK);
    cache_value_free(&value);
}

static int load_itself(cache_load *load, cache_slice key, void *arg)
{
    cache_value *value;
    assert_int_equal(cache_get_or_load(c, key, load_itself, arg, &value), CACHE_E_INVALID);
    assert_int_equal(cache_get_or_load(c, CACHE_LITERAL("other"), load_value, arg, &value), CACHE_OK);
    cache_value_free(&value);
    return cache_load_value(load, CACHE_LITERAL("v"));
}

static void a_loader_may_ask_for_other_keys_and_not_for_its_own(void **state)
{
    (void)state;
    int loads = 0;
    cache_value *value;
    assert_int_equal(cache_get_or_load(c, CACHE_LITERAL("k"), load_itself, &loads, &value), CACHE_OK);
    cache_value_free(&value);
}

static int load_while_evicted(cache_load *load, cache_slice key, void *arg)
{
    if (++*(int *)arg == 1) {
        assert_int_equal(cache_evict_tag(c, CACHE_LITERAL("late")),
                         CACHE_OK); /* the database changes under our feet */
        cache_load_tag(load, CACHE_LITERAL("late"));
        return cache_load_value(load, CACHE_LITERAL("old"));
    }
    return cache_load_value(load, key);
}

static void a_load_that_an_eviction_overtook_is_returned_and_not_stored(void **state)
{
    (void)state;
    int loads = 0;
    cache_value *value;
    assert_int_equal(cache_get_or_load(c, CACHE_LITERAL("k"), load_while_evicted, &loads, &value), CACHE_OK);
    assert_string_equal(value->data, "old");
    cache_value_free(&value);
    assert_int_equal(cache_get_or_load(c, CACHE_LITERAL("k"), load_while_evicted, &loads, &value), CACHE_OK);
    assert_string_equal(value->data, "k");
    cache_value_free(&value);
}

static int store(cache_slice key, cache_slice value, void *arg)
{
    (void)key;
    (void)value;
    return *(int *)arg;
}

static void write_through_stores_or_evicts(void **state)
{
    (void)state;
    int result = CACHE_OK;
    char buffer[16];
    assert_int_equal(cache_write(c, CACHE_LITERAL("k"), CACHE_LITERAL("v1"), NULL, 0, 0, store, &result),
                     CACHE_OK);
    assert_int_equal(cache_get(c, CACHE_LITERAL("k"), buffer, sizeof buffer, NULL), CACHE_OK);
    result = -5;
    assert_int_equal(cache_write(c, CACHE_LITERAL("k"), CACHE_LITERAL("v2"), NULL, 0, 0, store, &result),
                     CACHE_E_LOADER);
    assert_int_equal(cache_get(c, CACHE_LITERAL("k"), buffer, sizeof buffer, NULL), CACHE_MISS);
}

#define THREADS 32

static _Atomic int shared_loads;
static pthread_barrier_t all_asked;

static int load_when_all_asked(cache_load *load, cache_slice key, void *arg)
{
    cache_stats stats = {.struct_size = sizeof stats};
    (void)key;
    (void)arg;
    atomic_fetch_add(&shared_loads, 1);
    do {
        cache_get_stats(c, &stats);
    } while (stats.shared_loads < THREADS - 1);
    return cache_load_value(load, CACHE_LITERAL("shared"));
}

static void *ask(void *arg)
{
    cache_value *value = NULL;
    (void)arg;
    pthread_barrier_wait(&all_asked);
    int status = cache_get_or_load(c, CACHE_LITERAL("k"), load_when_all_asked, NULL, &value);
    if (status == CACHE_OK && strcmp(value->data, "shared") != 0)
        status = 1000;
    cache_value_free(&value);
    return (void *)(intptr_t)status;
}

static void concurrent_misses_share_one_load(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    pthread_barrier_init(&all_asked, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        void *status;
        pthread_join(threads[i], &status);
        assert_null(status);
    }
    pthread_barrier_destroy(&all_asked);
    assert_int_equal(atomic_load(&shared_loads), 1);
}

static void bad_arguments_are_refused(void **state)
{
    (void)state;
    static char long_key[CACHE_KEY_SIZE_MAX + 1];
    cache *none = NULL;
    cache_options options = CACHE_OPTIONS_INIT;
    cache_value *value;
    assert_int_equal(cache_get_value(c, cache_slice_of("", 0), &value), CACHE_E_INVALID);
    assert_int_equal(cache_get_value(c, cache_slice_of(NULL, 3), &value), CACHE_E_INVALID);
    assert_int_equal(cache_get_value(c, cache_slice_of(long_key, sizeof long_key), &value), CACHE_E_INVALID);
    assert_int_equal(cache_evict_tag(c, cache_slice_of(long_key, CACHE_TAG_SIZE_MAX + 1)), CACHE_E_INVALID);
    assert_int_equal(cache_set(c, CACHE_LITERAL("k"), cache_slice_of(NULL, 1), NULL, 0, 0), CACHE_E_INVALID);
    assert_int_equal(
        cache_set(c, CACHE_LITERAL("k"), cache_slice_of("v", CACHE_VALUE_SIZE_MAX + 1), NULL, 0, 0),
        CACHE_E_SIZE);
    options.l1_bytes = 1;
    assert_int_equal(cache_create(&options, &none), CACHE_E_INVALID);
    options = (cache_options)CACHE_OPTIONS_INIT;
    options.redis_url = "http://localhost";
    assert_int_equal(cache_create(&options, &none), CACHE_E_URL);
    options.redis_url = NULL;
    options.namespace_name = "with space";
    assert_int_equal(cache_create(&options, &none), CACHE_E_INVALID);
    assert_null(none);
}

static void options_of_an_older_caller_get_defaults_for_what_it_does_not_know(void **state)
{
    (void)state;
    cache_options old = CACHE_OPTIONS_INIT, read;
    old.struct_size = offsetof(cache_options, l1_ttl_ms);
    old.l1_bytes = 1u << 20;
    old.lease_ms = 1; /* lies behind what it knows */
    assert_int_equal(options_read(&old, &read), CACHE_OK);
    assert_int_equal(read.l1_bytes, 1u << 20);
    assert_int_equal(read.lease_ms, 5000);
    old.struct_size = 0;
    assert_int_equal(options_read(&old, &read), CACHE_E_INVALID);
}

static void xfetch_refreshes_the_likelier_the_nearer_the_expiry(void **state)
{
    (void)state;
    assert_false(xfetch_is_due(1000, 100, 0, 0.5));
    assert_false(xfetch_is_due(1000, 0, 1, 1e-9));
    assert_true(xfetch_is_due(0, 100, 1, 0.999));
    assert_true(xfetch_is_due(100, 100, 1, 0.3));  /* -ln 0.3 = 1.2 */
    assert_false(xfetch_is_due(100, 100, 1, 0.5)); /* -ln 0.5 = 0.7 */
    assert_false(xfetch_is_due(1000, 100, 1, 0.001));
}

static void hit_rates_count_reads_that_needed_no_load(void **state)
{
    (void)state;
    cache_stats stats = {.l1_hits = 90, .l2_hits = 5, .misses = 5};
    assert_true(cache_hit_rate(&stats) > 0.9499 && cache_hit_rate(&stats) < 0.9501);
    memset(&stats, 0, sizeof stats);
    assert_true(cache_hit_rate(&stats) == 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_value_is_loaded_once_and_then_comes_from_l1),
        TEST(evictions_by_key_and_tag_reload),
        TEST(a_buffer_that_is_too_small_is_told_the_size),
        TEST(not_found_is_remembered),
        TEST(a_failed_load_is_told_and_not_stored),
        TEST(a_loader_may_ask_for_other_keys_and_not_for_its_own),
        TEST(a_load_that_an_eviction_overtook_is_returned_and_not_stored),
        TEST(write_through_stores_or_evicts),
        TEST(concurrent_misses_share_one_load),
        TEST(bad_arguments_are_refused),
        cmocka_unit_test(options_of_an_older_caller_get_defaults_for_what_it_does_not_know),
        cmocka_unit_test(xfetch_refreshes_the_likelier_the_nearer_the_expiry),
        cmocka_unit_test(hit_rates_count_reads_that_needed_no_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
