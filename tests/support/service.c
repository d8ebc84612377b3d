/* service: a process with a libcache, driven by a test over stdin and stdout, one line a command:
 *   wait                    until L1 is current                     -> ok
 *   load FIRST COUNT        get_or_load of post:FIRST ...           -> ok LOADS
 *   held FIRST COUNT        which of them L1 answers, L2 unasked    -> hex digits, 4 posts each
 *   get KEY                 -> l1 VALUE | l2 VALUE | miss
 *   fetch KEY VALUE TAG...  get_or_load with a loader that gives this value and tags -> l1|l2|loader VALUE
 *   storm KEY THREADS       as many threads ask for one key at once; the loader takes 200 ms -> ok LOADS
 *   stat NAME               one counter                             -> NUMBER
 * A post's value is "v<id>", its tags are author:<id % 500>:posts and label:<id % 50>. */
#include <cache/cache.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREADS_MAX 1000
#define WORDS_MAX   16

static cache *the_cache;

static int load_post(cache_load *load, cache_slice key, void *arg)
{
    char text[64], id_text[16];
    size_t digits = key.size - strlen("post:");
    if (key.size <= strlen("post:") || digits >= sizeof id_text)
        return CACHE_E_LOADER;
    memcpy(id_text, (const char *)key.data + strlen("post:"), digits);
    id_text[digits] = '\0';
    int id = atoi(id_text);
    int size = snprintf(text, sizeof text, "author:%d:posts", id % 500);
    cache_load_tag(load, cache_slice_of(text, (size_t)size));
    size = snprintf(text, sizeof text, "label:%d", id % 50);
    cache_load_tag(load, cache_slice_of(text, (size_t)size));
    size = snprintf(text, sizeof text, "v%d", id);
    ++*(int *)arg;
    return cache_load_value(load, cache_slice_of(text, (size_t)size));
}

static void say(const char *text)
{
    puts(text);
    fflush(stdout);
}

static int post_key(char *out, size_t size, int id)
{
    return snprintf(out, size, "post:%d", id);
}

static void do_load(int first, int count)
{
    int loads = 0;
    char key[32];
    for (int i = first; i < first + count; i++) {
        cache_value *value;
        int size = post_key(key, sizeof key, i);
        if (cache_get_or_load(the_cache, cache_slice_of(key, (size_t)size), load_post, &loads, &value) !=
            CACHE_OK) {
            say("error");
            return;
        }
        cache_value_free(&value);
    }
    printf("ok %d\n", loads);
    fflush(stdout);
}

static int is_held(int id)
{
    char key[32], value[32];
    cache_info info;
    int size = post_key(key, sizeof key, id);
    return cache_get(the_cache, cache_slice_of(key, (size_t)size), value, sizeof value, &info) == CACHE_OK &&
           info.level == CACHE_LEVEL_L1;
}

static void do_held(int first, int count)
{
    for (int i = first; i < first + count; i += 4) {
        int digit = 0;
        for (int j = 0; j < 4 && i + j < first + count; j++)
            digit |= is_held(i + j) << j;
        putchar("0123456789abcdef"[digit]);
    }
    say("");
}

static const char *level_name(enum cache_level level)
{
    return level == CACHE_LEVEL_L1 ? "l1" : level == CACHE_LEVEL_L2 ? "l2" : "loader";
}

static void tell(int status, cache_value *value)
{
    if (status == CACHE_OK)
        printf("%s %.*s\n", level_name(value->info.level), (int)value->info.size, (const char *)value->data);
    else
        printf("%s\n", status == CACHE_MISS ? "miss" : cache_strerror(status));
    fflush(stdout);
    if (status == CACHE_OK)
        cache_value_free(&value);
}

static void do_get(const char *key)
{
    cache_value *value = NULL;
    int status = cache_get_value(the_cache, cache_slice_of(key, strlen(key)), &value);
    tell(status, value);
}

struct given {
    char **words; /* value, tags..., NULL */
};

static int load_given(cache_load *load, cache_slice key, void *arg)
{
    const struct given *given = arg;
    (void)key;
    for (char **tag = given->words + 1; *tag; tag++)
        cache_load_tag(load, cache_slice_of(*tag, strlen(*tag)));
    return cache_load_value(load, cache_slice_of(given->words[0], strlen(given->words[0])));
}

static void do_fetch(char **words)
{
    struct given given = {words + 1};
    cache_value *value = NULL;
    int status =
        cache_get_or_load(the_cache, cache_slice_of(words[0], strlen(words[0])), load_given, &given, &value);
    tell(status, value);
}

static _Atomic int storm_loads;
static pthread_barrier_t storm_start;

static int load_slowly(cache_load *load, cache_slice key, void *arg)
{
    (void)key;
    (void)arg;
    atomic_fetch_add(&storm_loads, 1);
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL); /* a slow database, not a synchronisation */
    return cache_load_value(load, CACHE_LITERAL("storm"));
}

static void *storm_main(void *key)
{
    cache_value *value;
    pthread_barrier_wait(&storm_start);
    int status = cache_get_or_load(the_cache, cache_slice_of(key, strlen(key)), load_slowly, NULL, &value);
    if (status == CACHE_OK)
        cache_value_free(&value);
    return (void *)(intptr_t)status;
}

static void do_storm(char *key, int threads)
{
    static pthread_t ids[THREADS_MAX];
    int failures = 0, started = 0;
    atomic_store(&storm_loads, 0);
    pthread_barrier_init(&storm_start, NULL, (unsigned)threads);
    for (; started < threads; started++) {
        if (pthread_create(&ids[started], NULL, storm_main, key) != 0)
            abort();
    }
    for (int i = 0; i < started; i++) {
        void *status;
        pthread_join(ids[i], &status);
        failures += status != (void *)CACHE_OK;
    }
    pthread_barrier_destroy(&storm_start);
    if (failures)
        printf("error %d\n", failures);
    else
        printf("ok %d\n", atomic_load(&storm_loads));
    fflush(stdout);
}

static void do_stat(const char *name)
{
    cache_stats stats = {.struct_size = sizeof stats};
    cache_get_stats(the_cache, &stats);
#define TELL(field, meaning)                                                                                 \
    if (strcmp(name, #field) == 0)                                                                           \
        printf("%llu\n", (unsigned long long)stats.field);
    CACHE_COUNTERS(TELL)
#undef TELL
    if (strcmp(name, "l1_entries") == 0)
        printf("%llu\n", (unsigned long long)stats.l1_entries);
    if (strcmp(name, "trust") == 0)
        printf("%d\n", (int)stats.trust);
    if (strcmp(name, "applied_seq") == 0)
        printf("%llu\n", (unsigned long long)stats.applied_seq);
    fflush(stdout);
}

static void obey(char *line)
{
    char *words[WORDS_MAX + 1] = {NULL};
    size_t count = 0;
    for (char *word = strtok(line, " \n"); word && count < WORDS_MAX; word = strtok(NULL, " \n"))
        words[count++] = word;
    if (count == 1 && strcmp(words[0], "wait") == 0)
        say(cache_wait_current(the_cache, 10000) == CACHE_OK ? "ok" : "timeout");
    else if (count == 3 && strcmp(words[0], "load") == 0)
        do_load(atoi(words[1]), atoi(words[2]));
    else if (count == 3 && strcmp(words[0], "held") == 0)
        do_held(atoi(words[1]), atoi(words[2]));
    else if (count == 2 && strcmp(words[0], "get") == 0)
        do_get(words[1]);
    else if (count >= 3 && strcmp(words[0], "fetch") == 0)
        do_fetch(words + 1);
    else if (count == 3 && strcmp(words[0], "storm") == 0 && atoi(words[2]) > 0 &&
             atoi(words[2]) <= THREADS_MAX)
        do_storm(words[1], atoi(words[2]));
    else if (count == 2 && strcmp(words[0], "stat") == 0)
        do_stat(words[1]);
    else
        say("unknown command");
}

int main(int argc, char **argv)
{
    static char line[4096];
    cache_options options = CACHE_OPTIONS_INIT;
    options.redis_url = argc > 1 ? argv[1] : NULL;
    options.l1_ttl_ms = 600000; /* only an eviction shall remove an entry here */
    options.xfetch_beta = 0;
    int status = cache_create(&options, &the_cache);
    if (status != CACHE_OK) {
        fprintf(stderr, "service: %s\n", cache_strerror(status));
        return 1;
    }
    while (fgets(line, sizeof line, stdin))
        obey(line);
    cache_destroy(&the_cache);
    return 0;
}
