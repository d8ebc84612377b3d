#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "config.h"
#include "failing_malloc.h"
#include "log.h"
#include "samples.h"

/* Loads from within the sample's folder, so that messages name files as their samples do. */
static int load_sample(const char *path, char **ret_messages, struct config **ret_config)
{
    char folder[4096];
    size_t size;
    FILE *err = open_memstream(ret_messages, &size);
    const char *base = strrchr(path, '/') + 1;
    snprintf(folder, sizeof folder, "%s/%.*s", SAMPLES_DIR, (int)(base - path), path);
    assert_int_equal(chdir(folder), 0);
    int errors = config_load(base, err, ret_config);
    fclose(err);
    return errors;
}

static void take(void *arg, const char *path)
{
    char *messages = NULL;
    struct config *config = NULL;
    (void)arg;
    if (load_sample(path, &messages, &config) != 0)
        fail_msg("%s: %s", path, messages);
    assert_string_equal(messages, "");
    config_unload(&config);
    free(messages);
}

static void refuse(void *arg, const char *path)
{
    char expected_path[256], *messages = NULL;
    struct config *config = NULL;
    size_t size;
    int lines = 0;
    (void)arg;
    snprintf(expected_path, sizeof expected_path, "%.*s.expected", (int)(strrchr(path, '.') - path), path);
    char *expected = samples_read(expected_path, &size);
    int errors = load_sample(path, &messages, &config);
    assert_null(config);
    assert_string_equal(messages, expected);
    for (const char *at = messages; (at = strchr(at, '\n')); at++)
        lines++;
    assert_true(errors > 0);
    assert_int_equal(errors, lines);
    free(messages);
    free(expected);
}

static void every_valid_sample_is_taken(void **state)
{
    (void)state;
    assert_true(samples_each("config/valid", ".conf", take, NULL) >= 3);
}

static void every_invalid_sample_is_refused_with_its_message(void **state)
{
    (void)state;
    assert_true(samples_each("config/invalid", ".conf", refuse, NULL) >= 34);
}

static void defaults_stand_where_nothing_is_said(void **state)
{
    struct config *config = NULL;
    (void)state;
    assert_int_equal(config_load_text("rules = ( { name = \"a\"; topics = [ \"t\" ]; keys = [ \"k\" ]; } );",
                                      stderr, &config),
                     0);
    assert_string_equal(config->namespace_name, "main");
    assert_string_equal(config->tag_prefix, "tag:");
    assert_string_equal(config->lease_prefix, "lease:");
    assert_string_equal(config->kafka.brokers, "localhost:9092");
    assert_string_equal(config->kafka.group, "evictd");
    assert_int_equal(config->kafka.start, START_EARLIEST);
    assert_int_equal(config->kafka.properties_count, 0);
    assert_string_equal(config->redis.url, "redis://localhost:6379/0");
    assert_int_equal(config->redis.log_length, 4096);
    assert_string_equal(config->dead_letter.topic, "evictd.dead-letters");
    assert_int_equal(config->dead_letter.policy, DEAD_LETTER_SEND);
    assert_int_equal(config->log.level, LOG_INFO);
    assert_int_equal(config->log.json, 0);
    assert_int_equal(config->max_fan_out, 10000);
    assert_int_equal(config->trace, 0);
    assert_int_equal(config->members, 0);
    config_unload(&config);
    assert_null(config);
}

static void every_setting_reaches_its_field(void **state)
{
    char *messages = NULL;
    struct config *config = NULL;
    (void)state;
    assert_int_equal(load_sample("config/valid/full.conf", &messages, &config), 0);
    assert_string_equal(config->namespace_name, "blog");
    assert_string_equal(config->tag_prefix, "blog:tag:");
    assert_string_equal(config->lease_prefix, "blog:lease:");
    assert_string_equal(config->kafka.brokers, "kafka-1:9092,kafka-2:9092");
    assert_string_equal(config->kafka.group, "evictd-blog");
    assert_int_equal(config->kafka.start, START_LATEST);
    assert_int_equal(config->kafka.properties_count, 2);
    assert_string_equal(config->kafka.properties[1], "security.protocol=plaintext");
    assert_string_equal(config->redis.url, "redis://evictd:secret@redis.example:6380/2");
    assert_int_equal(config->redis.log_length, 16384);
    assert_string_equal(config->dead_letter.topic, "blog.dead-letters");
    assert_int_equal(config->dead_letter.policy, DEAD_LETTER_STOP);
    assert_int_equal(config->log.level, LOG_DEBUG);
    assert_int_equal(config->log.json, 1);
    assert_int_equal(config->max_fan_out, 500);
    assert_int_equal(config->trace, 1);
    assert_int_equal(config->members, 1);
    assert_int_equal(rules_count(config->rules), 5); /* of two files, in order of their names */
    assert_string_equal(rules_topics_get(config->rules, 0), "blog.posts");
    assert_string_equal(rules_topics_get(config->rules, 2), "^shop\\.orders\\.");
    config_unload(&config);
    free(messages);
}

static int errors_of(const char *path, char **ret_messages)
{
    struct config *config = NULL;
    size_t size;
    FILE *err = open_memstream(ret_messages, &size);
    int errors = config_load(path, err, &config);
    fclose(err);
    assert_null(config);
    return errors;
}

static void files_that_cannot_be_read_are_named(void **state)
{
    char *messages = NULL;
    (void)state;
    assert_int_equal(errors_of("/nonexistent/evictd.conf", &messages), 1);
    assert_string_equal(messages,
                        "/nonexistent/evictd.conf:1: cannot open the file: No such file or directory; "
                        "check path and permissions\n");
    free(messages);
    assert_int_equal(errors_of("/tmp", &messages), 1);
    assert_string_equal(messages,
                        "/tmp:1: cannot read the file: Is a directory; check path and permissions\n");
    free(messages);
}

static void files_that_are_no_text_are_refused(void **state)
{
    char path[] = "/tmp/test_config.XXXXXX", expected[128], *messages = NULL;
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "trace = true;\0", 14), 14);
    assert_int_equal(errors_of(path, &messages), 1);
    snprintf(expected, sizeof expected, "%s:1: the file holds a NUL byte; remove it\n", path);
    assert_string_equal(messages, expected);
    free(messages);
    assert_int_equal(ftruncate(fd, (1 << 20) + 1), 0);
    assert_int_equal(errors_of(path, &messages), 1);
    snprintf(expected, sizeof expected, "%s:1: the file is larger than 1048576 bytes; split it\n", path);
    assert_string_equal(messages, expected);
    free(messages);
    close(fd);
    unlink(path);
}

static void text_cannot_name_files(void **state)
{
    char *messages = NULL;
    size_t size;
    struct config *config = NULL;
    FILE *err = open_memstream(&messages, &size);
    (void)state;
    assert_int_equal(config_load_text("rules = [ \"/etc/*.conf\" ];", err, &config), 1);
    fclose(err);
    assert_string_equal(messages, "text:1: rules files cannot be named here; write the rules themselves\n");
    free(messages);
}

static void rules_are_bounded_in_number(void **state)
{
    char *text = NULL, *messages = NULL;
    size_t size;
    struct config *config = NULL;
    FILE *out = open_memstream(&text, &size), *err;
    (void)state;
    fprintf(out, "rules = (");
    for (int i = 0; i <= RULES_MAX; i++)
        fprintf(out, "%s\n{name=\"r%d\";topics=[\"t%d\"];keys=[\"k\"];}", i ? "," : "", i, i % 7);
    fprintf(out, ");");
    fclose(out);
    err = open_memstream(&messages, &size);
    assert_int_equal(config_load_text(text, err, &config), 1);
    fclose(err);
    assert_string_equal(messages, "text:10002: more than 10000 rules; join some\n");
    free(messages);
    free(text);
}

static void the_reference_in_the_documents_is_printed_from_the_table(void **state)
{
    char *printed = NULL;
    size_t size, printed_size;
    FILE *out = open_memstream(&printed, &printed_size);
    char *document = samples_read("../config.md", &size);
    (void)state;
    config_print_reference(out);
    fclose(out);
    if (!strstr(document, printed))
        fail_msg("schemas/config.md lacks this table:\n%s", printed);
    free(printed);
    free(document);
}

static void want_of_memory_is_an_error_and_leaks_nothing(void **state)
{
    static const char text[] =
        "kafka = { properties = [ \"session.timeout.ms=6000\" ]; group = \"g\"; };\n"
        "rules = ( { name = \"a\"; topics = [ \"t\", \"^u\" ]; keys = [ \"k:${a.b['c']}\", \"${@header.h}\" "
        "]; tags = [ \"t\" ];\n"
        "  when = ( { field = \"op\"; in = ( \"c\", 1 ); }, { field = \"x[*]\"; exists = true; } ); },\n"
        "  { name = \"b\"; topics = [ \"t\" ]; keys = [ \"k\" ]; when = ( { tombstone = true; } ); } );";
    bool has_failed = true;
    long n = 0;
    (void)state;
    for (; has_failed; n++) {
        struct config *config = NULL;
        failing_malloc_arm(n);
        int errors = config_load_text(text, NULL, &config);
        has_failed = failing_malloc_disarm();
        assert_int_equal(errors > 0, has_failed);
        assert_int_equal(config != NULL, !has_failed);
        config_unload(&config);
    }
    assert_true(n > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_valid_sample_is_taken),
        cmocka_unit_test(every_invalid_sample_is_refused_with_its_message),
        cmocka_unit_test(defaults_stand_where_nothing_is_said),
        cmocka_unit_test(every_setting_reaches_its_field),
        cmocka_unit_test(files_that_cannot_be_read_are_named),
        cmocka_unit_test(files_that_are_no_text_are_refused),
        cmocka_unit_test(text_cannot_name_files),
        cmocka_unit_test(rules_are_bounded_in_number),
        cmocka_unit_test(the_reference_in_the_documents_is_printed_from_the_table),
        cmocka_unit_test(want_of_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
