/* main: the command line of evictd. Exit codes: 0 done, 1 failed while running, 2 usage or configuration. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "demo.h"
#include "log.h"
#include "pipeline.h"
#include "purge.h"
#include "version.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

#define DEFAULT_CONFIG "/etc/evictd/evictd.conf"
#define PURGE_MAX      1000

static const char help[] =
    "evictd evicts cached keys and tags from Redis, and from the caches inside services, as events on Kafka "
    "say.\n"
    "\n"
    "usage: evictd run   [-c FILE]                      consume events until SIGTERM or SIGINT\n"
    "       evictd check [-c FILE]                      check the configuration and the rules, start "
    "nothing\n"
    "       evictd purge [-c FILE] --key K | --tag T …  evict by hand what an event would\n"
    "       evictd demo  [--keep] [--seconds N]         see it work, without a server or a configuration\n"
    "       evictd settings                             list every setting with its default\n"
    "       evictd --version | --help\n"
    "\n"
    "  -c, --config FILE   default: " DEFAULT_CONFIG "\n"
    "  -k, --key K         purge: a key; may be given often, up to 1000 with the tags\n"
    "  -t, --tag T         purge: a tag, without its prefix in Redis\n"
    "\n"
    "Exit codes: 0 done, 1 failed while running, 2 usage or configuration. Logs go to stderr.\n";

static struct pipeline *running;

static void on_signal(int number)
{
    (void)number;
    pipeline_stop(running); /* stores one atomic flag */
}

static void catch_signals(void)
{
    struct sigaction stop = {.sa_handler = on_signal};
    sigemptyset(&stop.sa_mask);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int run(const struct config *config)
{
    char error[512];
    log_setup((enum log_level)config->log.level, config->log.json);
    if (pipeline_create(config, NULL, &running, error, sizeof error) < 0) {
        fprintf(stderr, "evictd: %s\n", error);
        return EXIT_FAILED;
    }
    catch_signals();
    log_line(LOG_INFO, "evictd starts", log_text("version", EVICTD_VERSION),
             log_text("group", config->kafka.group), log_text("brokers", config->kafka.brokers),
             log_text("namespace", config->namespace_name));
    int result = pipeline_run(running);
    log_line(LOG_INFO, "evictd ends", log_number("events", (int64_t)pipeline_stats(running)->events),
             log_number("tags", (int64_t)pipeline_stats(running)->tags),
             log_number("keys", (int64_t)pipeline_stats(running)->keys));
    pipeline_destroy(&running);
    return result == 0 ? EXIT_DONE : EXIT_FAILED;
}

static int check(const struct config *config, const char *path)
{
    printf("%s: good; %zu topics\n", path, rules_topics_count(config->rules));
    return EXIT_DONE;
}

static int usage(const char *what)
{
    fprintf(stderr, "evictd: %s; see evictd --help\n", what);
    return EXIT_USAGE;
}

struct arguments {
    const char *config;
    struct invalidate_slice keys[PURGE_MAX], tags[PURGE_MAX];
    size_t keys_count, tags_count;
};

static int parse(int argc, char **argv, struct arguments *ret_arguments)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"tag", required_argument, NULL, 't'},
                                            {NULL, 0, NULL, 0}};
    struct arguments *arguments = ret_arguments;
    int option;
    arguments->config = DEFAULT_CONFIG;
    while ((option = getopt_long(argc, argv, "c:k:t:", options, NULL)) != -1) {
        struct invalidate_slice name = {optarg, optarg ? strlen(optarg) : 0};
        if (option == '?')
            return usage("unknown option, or one without its value");
        if (option == 'c') {
            arguments->config = optarg;
            continue;
        }
        if (name.size == 0 || arguments->keys_count + arguments->tags_count == PURGE_MAX)
            return usage("a key or tag must not be empty, and at most 1000 can be given");
        if (option == 'k')
            arguments->keys[arguments->keys_count++] = name;
        else
            arguments->tags[arguments->tags_count++] = name;
    }
    return optind < argc ? usage("unexpected argument") : EXIT_DONE;
}

int main(int argc, char **argv)
{
    static struct arguments arguments;
    struct config *config = NULL;
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0 || strcmp(command, "help") == 0) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    if (strcmp(command, "--version") == 0 || strcmp(command, "-V") == 0) {
        version_print();
        return EXIT_DONE;
    }
    if (strcmp(command, "demo") == 0)
        return demo_main(argc - 1, argv + 1);
    if (strcmp(command, "settings") == 0) {
        config_print_reference(stdout);
        return EXIT_DONE;
    }
    bool is_run = strcmp(command, "run") == 0, is_purge = strcmp(command, "purge") == 0;
    if (!is_run && !is_purge && strcmp(command, "check") != 0)
        return usage(command[0] ? "unknown command" : "a command is missing");
    int status = parse(argc - 1, argv + 1, &arguments);
    if (status != EXIT_DONE)
        return status;
    if (is_purge && arguments.keys_count + arguments.tags_count == 0)
        return usage("purge needs --key or --tag");
    if (!is_purge && arguments.keys_count + arguments.tags_count > 0)
        return usage("--key and --tag belong to purge");
    if (config_load(arguments.config, stderr, &config) != 0)
        return EXIT_USAGE;
    if (is_run)
        status = run(config);
    else if (is_purge)
        status =
            purge_run(config, arguments.keys, arguments.keys_count, arguments.tags, arguments.tags_count);
    else
        status = check(config, arguments.config);
    config_unload(&config);
    return status;
}
