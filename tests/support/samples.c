#include "samples.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *samples_read(const char *path, size_t *ret_size)
{
    char name[4096];
    size_t capacity = 1u << 20;
    char *text = malloc(capacity);
    snprintf(name, sizeof name, "%s/%s", SAMPLES_DIR, path);
    FILE *file = fopen(name, "re");
    if (!file || !text) {
        fprintf(stderr, "cannot read the sample %s\n", name);
        exit(1);
    }
    *ret_size = fread(text, 1, capacity - 1, file);
    text[*ret_size] = '\0';
    fclose(file);
    return text;
}

size_t samples_each(const char *folder, const char *ending, void (*visit)(void *arg, const char *path),
                    void *arg)
{
    char name[4096];
    struct dirent **entries = NULL;
    size_t visited = 0, ending_size = strlen(ending);
    snprintf(name, sizeof name, "%s/%s", SAMPLES_DIR, folder);
    int count = scandir(name, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        size_t size = strlen(entries[i]->d_name);
        if (size > ending_size && strcmp(entries[i]->d_name + size - ending_size, ending) == 0) {
            snprintf(name, sizeof name, "%s/%s", folder, entries[i]->d_name);
            visit(arg, name);
            visited++;
        }
        free(entries[i]);
    }
    free(entries);
    return visited;
}
