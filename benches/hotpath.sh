#!/bin/sh
# How many instructions does a prediction take? Fails when a path became dearer than benches/callgrind.toml allows.
#   benches/hotpath.sh            compare
#   benches/hotpath.sh --update   write what was counted; commit it with the change that explains it
# Counted in profile `release`, whose build CI can afford, not in `dist`, which is shipped: a regression shows in both.
set -eu
cd "$(dirname "$0")/.."
if ! command -v valgrind > /dev/null; then
    echo 'skipped: no valgrind (Debian, Ubuntu: apt-get install valgrind)'
    exit 0
fi
cargo build --quiet --release --package ev-benches --features ev-benches/server --bin hotpath
exec "${CARGO_TARGET_DIR:-target}/release/hotpath" "$@"
