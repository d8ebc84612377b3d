/* version: `evictd --version`. */
#pragma once

/** Prints evictd's version and those of the libraries it runs with. */
void version_print(void);
