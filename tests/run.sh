#!/usr/bin/env bash
# tests/run.sh [CTEST ARGUMENTS]   installs what is missing (Debian), builds into build/, runs the tests:
#   tests/run.sh -R crash    those whose name has "crash" in it
#   tests/run.sh -L unit     unit, integration, fuzz
# Fails when a test fails, when one is skipped, and when there is none.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

"$root/packaging/install-deps.sh" test
cd "$root"
cmake --preset release -DEVICTD_TESTS=ON > /dev/null
cmake --build build
tests/support/kafka prepare

# Whatever a test leaves behind when it is killed goes with this folder.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
status=0
ctest --test-dir build --output-on-failure --no-tests=error -j "$(nproc)" "$@" | tee "$TMPDIR/summary" || status=$?
if grep -E '\((Skipped|Disabled|Not Run)\)' "$TMPDIR/summary" > /dev/null; then
  echo "tests/run.sh: a skipped test counts as failed" >&2
  status=1
fi
exit $status
