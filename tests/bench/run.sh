#!/usr/bin/env bash
# tests/bench/run.sh agent [EVENTS [ROUNDS]]            a backlog drained, against the ceiling of the same Redis
# tests/bench/run.sh latency [EVENTS_PER_S [SECONDS]]   produce -> gone from the L1 of another process
# Owns its Kafka broker and its redis-server. The last line printed is one JSON object.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
what=${1:-}
case $what in agent | latency) shift ;; *) sed -n '2,4s/^# //p' "$0" >&2; exit 2 ;; esac
"$root/packaging/install-deps.sh" test >&2
(cd "$root" && cmake --preset release -DEVICTD_TESTS=ON > /dev/null)
cmake --build "$root/build" --target evictd "bench_$what" > /dev/null

tmp=$(mktemp -d)
end() {
  [ -z "${redis_pid:-}" ] || kill "$redis_pid" 2> /dev/null || true
  "$root/tests/support/kafka" stop "$tmp/broker" || true
  rm -rf "$tmp"
}
trap end EXIT
trap 'exit 130' INT TERM
redis-server --port 0 --unixsocket "$tmp/redis.sock" --save '' --appendonly no --dir "$tmp" > "$tmp/redis.log" 2>&1 &
redis_pid=$!
brokers=$(KAFKA_BENCH=1 KAFKA_HEAP=1g "$root/tests/support/kafka" start "$tmp/broker")
for _ in $(seq 100); do redis-cli -s "$tmp/redis.sock" ping > /dev/null 2>&1 && break; sleep 0.05; done
"$root/build/tests/bench/bench_$what" "$root/build/agent/evictd" "$tmp" "$brokers" "$tmp/redis.sock" "$@" ||
  { tail -5 "$tmp/evictd.log" >&2; exit 1; }
