#!/usr/bin/env bash
# packaging/install-deps.sh run|test|ci   installs what is missing on Debian: to build and run evictd, to test it as well,
# to check it as CI does as well. Does nothing when all is there; asks sudo when not root.
set -euo pipefail

run=(build-essential cmake ninja-build pkg-config librdkafka-dev libhiredis-dev libjansson-dev libconfig-dev libsqlite3-dev
  redis-server)
test=(libcmocka-dev kcat maven openssl python3 python3-jsonschema xz-utils)
ci=(clang libclang-rt-dev clang-format clang-tidy cppcheck)

case ${1:-} in
  run) wanted=("${run[@]}") ;;
  test) wanted=("${run[@]}" "${test[@]}") ;;
  ci) wanted=("${run[@]}" "${test[@]}" "${ci[@]}") ;;
  *) sed -n '2,3s/^# //p' "$0" >&2; exit 2 ;;
esac

has_jdk() { # 17 or later, of whatever package
  local version
  version=$(javac -version 2>&1) && version=${version#javac } && [ "${version%%.*}" -ge 17 ]
}

is_installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}\n' "$1" 2> /dev/null | sort -u)" = installed ]
}

missing=()
for package in "${wanted[@]}"; do
  is_installed "$package" || missing+=("$package")
done
[ "$1" = run ] || has_jdk || missing+=(default-jdk-headless)
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
[ "$(id -u)" = 0 ] || root=(sudo)
echo "install-deps: installing ${missing[*]}"

# Only the programs are wanted: no service may start with them.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap '"${root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" > /dev/null
  "${root[@]}" chmod 755 "$policy"
fi
"${root[@]}" apt-get update -qq
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
if [[ " ${missing[*]} " == *" redis-server "* ]] && [ -d /run/systemd/system ]; then
  "${root[@]}" systemctl disable --quiet redis-server
fi
