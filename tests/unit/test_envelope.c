#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "envelope.h"
#include "samples.h"

static int digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* A sample is hexadecimal text. */
static unsigned char *read_hex(const char *path, size_t *ret_size)
{
    size_t size;
    char *text = samples_read(path, &size);
    unsigned char *bytes = malloc(size / 2 + 1);
    size_t n = 0;
    for (size_t i = 0; i + 1 < size && text[i] > ' '; i += 2)
        bytes[n++] = (unsigned char)(digit(text[i]) * 16 + digit(text[i + 1]));
    free(text);
    *ret_size = n;
    return bytes;
}

static void expect_good(void *arg, const char *path)
{
    (void)arg;
    size_t size;
    struct envelope envelope;
    cache_slice tags[CACHE_TAGS_MAX];
    unsigned char *bytes = read_hex(path, &size), *again;
    if (envelope_decode(bytes, size, &envelope) != ENVELOPE_GOOD)
        fail_msg("%s is not understood", path);
    envelope_tags(bytes, &envelope, tags);
    envelope.tags = tags;
    assert_int_equal(envelope_size(&envelope), size);
    again = malloc(size);
    envelope_encode(&envelope, again);
    assert_memory_equal(again, bytes, size);
    free(again);
    free(bytes);
}

static void expect_bad(void *arg, const char *path)
{
    (void)arg;
    size_t size;
    struct envelope envelope;
    unsigned char *bytes = read_hex(path, &size);
    if (envelope_decode(bytes, size, &envelope) != ENVELOPE_BAD)
        fail_msg("%s is not refused", path);
    free(bytes);
}

static void every_valid_sample_is_read_and_written_again_the_same(void **state)
{
    (void)state;
    assert_true(samples_each("envelope/valid", ".hex", expect_good, NULL) >= 7);
}

static void every_invalid_sample_is_refused(void **state)
{
    (void)state;
    assert_true(samples_each("envelope/invalid", ".hex", expect_bad, NULL) >= 13);
}

static void other_writers_bytes_are_raw(void **state)
{
    (void)state;
    struct envelope envelope;
    assert_int_equal(envelope_decode("plain text", 10, &envelope), ENVELOPE_RAW);
    assert_int_equal(envelope_decode("", 0, &envelope), ENVELOPE_RAW);
    assert_int_equal(envelope_decode("\xe7", 1, &envelope), ENVELOPE_RAW);
}

static void cutting_an_envelope_anywhere_is_safe(void **state)
{
    (void)state;
    const cache_slice tags[] = {{"author:4:posts", 14}, {"label:c", 7}};
    struct envelope envelope = {.ttl_ms = 1000, .payload = {"payload", 7}, .tags = tags, .tags_count = 2},
                    read;
    size_t size = envelope_size(&envelope);
    unsigned char *bytes = malloc(size);
    envelope_encode(&envelope, bytes);
    for (size_t cut = 0; cut < size; cut++) {
        unsigned char *exact = malloc(cut + 1); /* so that a sanitizer sees a read behind it */
        memcpy(exact, bytes, cut);
        enum envelope_kind kind = envelope_decode(exact, cut, &read);
        assert_int_equal(kind, cut < 2 ? ENVELOPE_RAW : cut < size - 7 ? ENVELOPE_BAD : ENVELOPE_GOOD);
        free(exact);
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_valid_sample_is_read_and_written_again_the_same),
        cmocka_unit_test(every_invalid_sample_is_refused),
        cmocka_unit_test(other_writers_bytes_are_raw),
        cmocka_unit_test(cutting_an_envelope_anywhere_is_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
