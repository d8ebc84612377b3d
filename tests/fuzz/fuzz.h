/* fuzz: what a fuzz target defines; libFuzzer and replay_main.c call it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
