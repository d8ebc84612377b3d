#!/usr/bin/env bash
# test_install.sh BUILD-FOLDER: installs into a folder of its own, and builds an outside project with what is there: by
# pkg-config (shared and static) and by the CMake package. Only the public names may be exported.
set -euo pipefail
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/prefix" > /dev/null
libdir=$(dirname "$(find "$work/prefix" -name libcache.pc)")/..
export PKG_CONFIG_PATH=$libdir/pkgconfig

cat > "$work/outside.c" <<'C'
#include <cache/cache.h>
#include <string.h>

static int load(cache_load *load, cache_slice key, void *arg)
{
    (void)arg;
    return cache_load_value(load, key);
}

int main(void)
{
    cache *c;
    cache_value *value;
    if (cache_create(NULL, &c) != CACHE_OK ||
        cache_get_or_load(c, CACHE_LITERAL("key"), load, NULL, &value) != CACHE_OK || strcmp(value->data, "key") != 0)
        return 1;
    cache_value_free(&value);
    cache_destroy(&c);
    return 0;
}
C
# The installed .pc names the prefix of the build; the one that was installed to counts.
flags="--define-variable=prefix=$work/prefix"
cc "$work/outside.c" -o "$work/shared" $(pkg-config "$flags" --cflags --libs libcache)
LD_LIBRARY_PATH=$libdir "$work/shared"
cc "$work/outside.c" -o "$work/static" $(pkg-config "$flags" --cflags libcache) "$libdir/libcache.a" \
  $(pkg-config "$flags" --static --libs-only-l libcache | sed 's/-lcache //')
"$work/static"

cat > "$work/CMakeLists.txt" <<'C'
cmake_minimum_required(VERSION 3.25)
project(outside C)
find_package(libcache REQUIRED)
add_executable(with_shared outside.c)
target_link_libraries(with_shared libcache::cache)
add_executable(with_static outside.c)
target_link_libraries(with_static libcache::cache_static)
C
cmake -S "$work" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" > /dev/null
cmake --build "$work/build" > /dev/null
"$work/build/with_shared"
"$work/build/with_static"

exported=$(nm -D --defined-only "$libdir/libcache.so" | awk '$2 == "T" {print $3}' | sed 's/@.*//' | sort)
public=$(grep -o '\bcache_[a-z0-9_]*(' "$work/prefix/include/cache/cache.h" | tr -d '(' | sort -u |
  grep -v -e cache_slice_of -e cache_load_fn -e cache_store_fn)
[ "$exported" = "$public" ] || { diff <(echo "$exported") <(echo "$public") >&2; echo "test_install: exports differ" >&2; exit 1; }
