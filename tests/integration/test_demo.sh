#!/usr/bin/env bash
# test_demo.sh EVICTD: `evictd demo` without a terminal, to its end and interrupted; nothing of it may stay behind.
set -euo pipefail
evictd=$1
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

fail() { echo "test_demo: $*" >&2; cat "$TMPDIR/out" >&2; exit 1; }

nothing_left() {
  [ -z "$(find "$TMPDIR" -maxdepth 1 -name 'evictd-demo.*')" ] || fail "its folder is left"
  ! pgrep -f "$TMPDIR/evictd-demo" > /dev/null || fail "a process is left"
}

number() { # REGULAR-EXPRESSION with one group, of the summary
  sed -n "s/.*$1.*/\1/p" "$TMPDIR/out" | tail -1
}

"$evictd" demo --seconds 8 > "$TMPDIR/out" 2>&1 || fail "exit code $?"
[ "$(number 'summary: \([0-9]*\) events')" -gt 100 ] || fail "too few events"
[ "$(number ' \([0-9]*\) keys evicted by name')" -gt 50 ] || fail "too few keys evicted by name"
[ "$(number 'by name, \([0-9]*\) by tag; 1 dead')" -gt 50 ] || fail "too few keys evicted by tag, or not one dead letter"
[ "$(number 'hit rate [0-9.]* %, \([0-9]*\) stale')" = 0 ] || fail "stale answers"
grep -q 'post-changed blog.posts key post:' "$TMPDIR/out" || fail "no event is explained"
nothing_left

"$evictd" demo --keep > "$TMPDIR/out" 2>&1 &
pid=$!
for _ in $(seq 300); do grep -q 'hit rate' "$TMPDIR/out" && break; sleep 0.1; done
grep -q 'kcat -P -b 127.0.0.1' "$TMPDIR/out" || fail "--keep does not print the addresses"
kill -INT "$pid"
wait "$pid" || fail "exit code $? on SIGINT"
grep -q summary "$TMPDIR/out" || fail "no summary on SIGINT"
nothing_left

"$evictd" demo --keep > "$TMPDIR/out" 2>&1 &
pid=$!
for _ in $(seq 300); do grep -q 'hit rate' "$TMPDIR/out" && break; sleep 0.1; done
kill -KILL "$pid"
wait "$pid" 2> /dev/null || true
for _ in $(seq 100); do pgrep -f "$TMPDIR/evictd-demo" > /dev/null || break; sleep 0.05; done
! pgrep -f "$TMPDIR/evictd-demo" > /dev/null || fail "a process outlives kill -9"
