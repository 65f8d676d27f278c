#!/usr/bin/env bash
# Runs buf from its npm package, pinned, in a cache of this checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
version=1.75.0
buf=.cache/buf-$version/node_modules/.bin/buf
if [ ! -x "$buf" ]; then
  command -v npm >/dev/null || { echo 'the protobuf lint needs npm (Debian, Ubuntu: apt-get install npm)' >&2; exit 1; }
  npm install --silent --no-fund --no-audit --prefix ".cache/buf-$version" "@bufbuild/buf@$version"
fi
exec "$buf" "$@"
