/* hash: of keys and tags, seeded per process so that nobody can choose keys that collide. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Multiply and fold 128 to 64 bits, as in wyhash (Wang Yi, https://github.com/wangyi-fudan/wyhash) and its
 * kin. */
static inline uint64_t hash_fold(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_bytes(uint64_t seed, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    uint64_t hash = seed ^ 0x9e3779b97f4a7c15u, left = size, words[2];
    for (; left >= 16; left -= 16, bytes += 16) {
        memcpy(words, bytes, 16);
        hash = hash_fold(words[0] ^ hash, words[1] ^ 0xd6e8feb86659fd93u);
    }
    words[0] = words[1] = 0;
    memcpy(words, bytes, left);
    hash = hash_fold(words[0] ^ hash, words[1] ^ 0xa0761d6478bd642fu);
    return hash_fold(hash ^ size, 0xe7037ed1a0b428dbu ^ seed);
}
