/* tmp: makes and removes the folders a test works in; remembers them, so that a failed test leaves none. */
#include "tmp.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FOLDERS_MAX 64 /* of one test program at a time */
#define OPEN_MAX_FD 16 /* nftw: folders held open at once */

static char *folders[FOLDERS_MAX];
static pid_t owner; /* a forked child must not remove its parent's folders */

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static void remove_all(void)
{
    if (getpid() != owner)
        return;
    for (size_t i = 0; i < FOLDERS_MAX; i++)
        tmp_remove(folders[i]);
}

char *tmp_make(void)
{
    const char *base = getenv("TMPDIR");
    char path[TMP_PATH_SIZE];
    size_t slot = 0;

    if (owner != getpid()) {
        memset(folders, 0, sizeof(folders));
        owner = getpid();
        atexit(remove_all);
    }
    while (slot < FOLDERS_MAX && folders[slot])
        slot++;
    if (slot == FOLDERS_MAX)
        fail_msg("more than %d temporary folders", FOLDERS_MAX);
    snprintf(path, sizeof(path), "%s/evictd-test.XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(path))
        fail_msg("cannot make a folder like %s", path);
    folders[slot] = strdup(path);
    assert_non_null(folders[slot]);
    return folders[slot];
}

void tmp_remove(char *path)
{
    if (!path)
        return;
    for (size_t i = 0; i < FOLDERS_MAX; i++) {
        if (folders[i] == path)
            folders[i] = NULL;
    }
    nftw(path, remove_one, OPEN_MAX_FD, FTW_DEPTH | FTW_PHYS);
    free(path);
}
