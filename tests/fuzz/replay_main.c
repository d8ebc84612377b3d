/* replay: gives a fuzz target every file of the folders named on its command line, one by one, without
 * libFuzzer. A folder without files is a failure: such a check could not fail. */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

#define OPEN_MAX_FD 16 /* nftw: folders held open at once */

static unsigned replayed;

static int replay(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)where;
    if (kind != FTW_F)
        return kind == FTW_D ? 0 : -1;
    size_t size = (size_t)status->st_size;
    uint8_t *data = malloc(size ? size : 1); /* of the exact size: a sanitizer sees every byte read past it */
    FILE *file = fopen(path, "rb");
    int result = -1;

    if (data && file && fread(data, 1, size, file) == size) {
        fprintf(stderr, "%s\n", path); /* the last one named is the one that crashed */
        LLVMFuzzerTestOneInput(data, size);
        replayed++;
        result = 0;
    }
    if (file)
        fclose(file);
    free(data);
    return result;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        replayed = 0;
        errno = 0;
        if (nftw(argv[i], replay, OPEN_MAX_FD, FTW_PHYS) || replayed == 0) {
            fprintf(stderr, "%s: %s\n", argv[i], errno ? strerror(errno) : "no files to replay");
            return EXIT_FAILURE;
        }
        printf("%s: %u files\n", argv[i], replayed);
    }
    return argc > 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
