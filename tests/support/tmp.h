/* tmp: the folders a test works in. */
#pragma once

#define TMP_PATH_SIZE 256

/** A new folder under $TMPDIR (default /tmp), gone at the process's exit at the latest.
 * @return its path; valid until tmp_remove() */
char *tmp_make(void);

/** Removes a folder of tmp_make() and all that is in it; frees the path. NULL is fine. */
void tmp_remove(char *path);
