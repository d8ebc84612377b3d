#include "config_read.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define FILE_SIZE_MAX (1u << 20) /* of one file */
#define FILES_MAX     1000       /* rules files */

void problem_at(struct problems *problems, unsigned line, const char *format, ...)
{
    va_list args;
    problems->count++;
    if (!problems->err)
        return;
    fprintf(problems->err, "%s:%u: ", problems->file, line);
    va_start(args, format);
    vfprintf(problems->err, format, args);
    va_end(args);
    fputc('\n', problems->err);
}

void problem(struct problems *problems, const config_setting_t *where, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    problem_at(problems, config_setting_source_line(where), "%s", text);
}

/* --- files and texts --- */

/* @return the file's text, to be freed, or NULL after reporting */
static char *read_file(const char *path, struct problems *problems)
{
    char *text = NULL;
    FILE *file = fopen(path, "re");
    if (!file) {
        problem_at(problems, 1, "cannot open the file: %s; check path and permissions", strerror(errno));
        return NULL;
    }
    text = malloc(FILE_SIZE_MAX + 1);
    size_t size = text ? fread(text, 1, FILE_SIZE_MAX + 1, file) : 0;
    if (!text)
        problem_at(problems, 1, "out of memory; free some");
    else if (ferror(file))
        problem_at(problems, 1, "cannot read the file: %s; check path and permissions", strerror(errno));
    else if (size > FILE_SIZE_MAX)
        problem_at(problems, 1, "the file is larger than %u bytes; split it", FILE_SIZE_MAX);
    else if (memchr(text, '\0', size))
        problem_at(problems, 1, "the file holds a NUL byte; remove it");
    else
        goto out;
    free(text);
    text = NULL;
out:
    fclose(file);
    if (text)
        text[size] = '\0';
    return text;
}

/* libconfig would follow @include to any file; `rules` names what is read. @return false after reporting */
static bool check_includes(const char *text, struct problems *problems)
{
    unsigned line = 1;
    bool is_good = true;
    while (text) {
        if (strncmp(text + strspn(text, " \t"), "@include", 8) == 0) {
            problem_at(problems, line, "@include is not supported; name rules files in \"rules\"");
            is_good = false;
        }
        text = strchr(text, '\n');
        text = text ? text + 1 : NULL;
        line++;
    }
    return is_good;
}

/* @param parsed to be destroyed in any case @return false after reporting */
static bool parse(const char *text, config_t *parsed, struct problems *problems)
{
    config_init(parsed);
    if (!check_includes(text, problems))
        return false;
    if (config_read_string(parsed, text) == CONFIG_TRUE)
        return true;
    const char *what = config_error_text(parsed);
    if (what && strcmp(what, "syntax error") == 0)
        what = "syntax error; look for a missing ; or bracket here and above";
    else if (what && strstr(what, "duplicate"))
        what = "a name is set twice; remove one";
    problem_at(problems, (unsigned)config_error_line(parsed), "%s", what ? what : "unreadable");
    return false;
}

/* --- rules files --- */

static void read_rules_file(const char *path, struct rules *rules, struct problems *problems)
{
    const char *file_before = problems->file;
    config_t parsed;
    problems->file = path;
    char *text = read_file(path, problems);
    if (text) {
        if (parse(text, &parsed, problems)) {
            const config_setting_t *root = config_root_setting(&parsed);
            const config_setting_t *list = config_setting_get_member(root, "rules");
            for (int i = 0; i < config_setting_length(root); i++) {
                const config_setting_t *from = config_setting_get_elem(root, (unsigned)i);
                if (from != list)
                    problem(problems, from,
                            "a rules file holds nothing but \"rules\"; move \"%s\" to the main file",
                            config_setting_name(from));
            }
            if (!list)
                problem_at(problems, 1, "a rules file without rules; write rules = ( { ... } );");
            else if (!config_setting_is_list(list))
                problem(problems, list, "\"rules\" takes a list of rules here; write ( { ... } )");
            else
                rules_read(list, rules, problems);
        }
        config_destroy(&parsed);
        free(text);
    }
    problems->file = file_before;
}

/* "folder/pattern" relative to the folder of `base`. @return to be freed; up to and with the last slash */
static char *folder_of(const char *base, const char *glob)
{
    const char *base_end = strrchr(base, '/'), *glob_end = strrchr(glob, '/');
    size_t base_size = base_end && glob[0] != '/' ? (size_t)(base_end - base) + 1 : 0;
    size_t glob_size = glob_end ? (size_t)(glob_end - glob) + 1 : 0;
    char *folder = malloc(base_size + glob_size + 1);
    if (!folder)
        return NULL;
    memcpy(folder, base, base_size);
    memcpy(folder + base_size, glob, glob_size);
    folder[base_size + glob_size] = '\0';
    return folder;
}

/* Reads the files that match, in order of their names. Only the last part of a glob may be a pattern. */
static void read_rules_glob(const config_setting_t *from, const char *base, size_t *files_count,
                            struct rules *rules, struct problems *problems)
{
    const char *glob = config_setting_get_string(from);
    const char *pattern = strrchr(glob, '/') ? strrchr(glob, '/') + 1 : glob;
    struct dirent **entries = NULL;
    char *folder = folder_of(base, glob);
    int count = folder ? scandir(*folder ? folder : ".", &entries, NULL, alphasort) : 0;
    size_t matched = 0;
    for (int i = 0; i < count; i++) {
        char *path = NULL;
        if (fnmatch(pattern, entries[i]->d_name, FNM_PERIOD) == 0 && ++matched &&
            ++*files_count <= FILES_MAX) {
            if (asprintf(&path, "%s%s", folder, entries[i]->d_name) >= 0) {
                read_rules_file(path, rules, problems);
                free(path);
            } else {
                problem(problems, from, "out of memory; free some");
            }
        }
        free(entries[i]);
    }
    if (!folder)
        problem(problems, from, "out of memory; free some");
    else if (matched == 0)
        problem(problems, from, "no file matches \"%s\"; it is relative to this file's folder", glob);
    if (*files_count > FILES_MAX)
        problem(problems, from, "more than %d rules files; join some", FILES_MAX);
    free(entries);
    free(folder);
}

/* --- the whole --- */

/* @param path NULL: text in memory, which cannot name files */
static void read_rules(const config_setting_t *root, const char *path, struct rules *rules,
                       struct problems *problems)
{
    const config_setting_t *from = config_setting_get_member(root, "rules");
    size_t files_count = 0;
    if (!from || (config_setting_is_aggregate(from) && config_setting_length(from) == 0)) {
        problem_at(problems, from ? config_setting_source_line(from) : 1,
                   "no rules; write rules = [ \"rules.d/*.conf\" ];");
        return;
    }
    if (!config_setting_is_array(from) && !config_setting_is_list(from)) {
        problem(problems, from, "\"rules\" takes a list; write [ \"rules.d/*.conf\" ] or ( { ... } )");
        return;
    }
    if (config_setting_is_group(config_setting_get_elem(from, 0))) {
        rules_read(from, rules, problems);
        return;
    }
    for (int i = 0; i < config_setting_length(from); i++) {
        const config_setting_t *element = config_setting_get_elem(from, (unsigned)i);
        if (!config_setting_get_string(element))
            problem(problems, element,
                    "\"rules\" takes texts or rules; write [ \"rules.d/*.conf\" ] or ( { ... } )");
        else if (!path)
            problem(problems, element, "rules files cannot be named here; write the rules themselves");
        else
            read_rules_glob(element, path, &files_count, rules, problems);
    }
}

static struct config *read_config(const char *text, const char *path, struct problems *problems)
{
    config_t parsed;
    struct config *config = calloc(1, sizeof *config);
    if (!config || settings_set_defaults(config) < 0) {
        problem_at(problems, 1, "out of memory; free some");
        config_unload(&config);
        return NULL;
    }
    if (parse(text, &parsed, problems)) {
        const config_setting_t *root = config_root_setting(&parsed);
        settings_read(root, config, problems);
        config->rules = rules_create(config->max_fan_out);
        if (config->rules)
            read_rules(root, path, config->rules, problems);
        else
            problem_at(problems, 1, "out of memory; free some");
    }
    config_destroy(&parsed);
    return config;
}

static int finish(struct config *config, const struct problems *problems, struct config **ret_config)
{
    if (problems->count > 0)
        config_unload(&config);
    else
        *ret_config = config;
    return problems->count;
}

int config_load(const char *path, void *err, struct config **ret_config)
{
    struct problems problems = {.err = err, .file = path};
    struct config *config = NULL;
    char *text = read_file(path, &problems);
    if (text)
        config = read_config(text, path, &problems);
    free(text);
    return finish(config, &problems, ret_config);
}

int config_load_text(const char *text, void *err, struct config **ret_config)
{
    struct problems problems = {.err = err, .file = "text"};
    struct config *config = read_config(text, NULL, &problems);
    return finish(config, &problems, ret_config);
}

void config_unload(struct config **config)
{
    if (!config || !*config)
        return;
    settings_free(*config);
    rules_destroy(&(*config)->rules);
    free(*config);
    *config = NULL;
}
