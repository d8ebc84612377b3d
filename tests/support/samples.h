/* samples: the files under schemas/samples, for tests. */
#pragma once

#include <stddef.h>

/** Reads a file of SAMPLES_DIR, or exits with a message. @return its bytes and a NUL, to be freed */
char *samples_read(const char *path, size_t *ret_size);

/** Calls visit for each regular file of a folder of SAMPLES_DIR whose name ends so, in order. @return how
 * many */
size_t samples_each(const char *folder, const char *ending, void (*visit)(void *arg, const char *path),
                    void *arg);
