#!/bin/sh
# embed_scripts.sh DIR OUT: the Lua scripts of DIR as C strings, comments left out, each with the prelude before it, but
# behind its "#!lua flags" line, which must be the first.
set -eu
strings() {
  sed -e 's/^ *--.*$//' -e 's/ -- .*$//' -e 's/^ *//' "$1" |
    sed -e '/^$/d' -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/    "/' -e 's/$/\\n"/'
}
{
  echo '#include "scripts.h"'
  echo
  echo 'const char *const script_text[SCRIPTS_COUNT] = {'
  for name in lease store invalidate beat; do
    echo "    /* $name */"
    sed -n '1s/^\(#!.*\)$/    "\1\\n"/p' "$1/$name.lua"
    strings "$1/prelude.lua"
    strings "$1/$name.lua" | grep -v '^    "#!'
    echo '    ,'
  done
  echo '};'
} > "$2.new"
mv "$2.new" "$2"
