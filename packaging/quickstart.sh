#!/usr/bin/env bash
# packaging/quickstart.sh [ARGUMENTS]   installs what is missing (Debian), builds evictd into build/, shows it at work:
# evictd demo ARGUMENTS
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

"$root/packaging/install-deps.sh" run
cd "$root"
cmake --preset release -DEVICTD_TESTS=OFF > /dev/null
cmake --build build --target evictd blog_service
exec build/agent/evictd demo "$@"
