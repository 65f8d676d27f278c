#!/usr/bin/env bash
# Everything `make test` runs, in order, each step with its name. Stops at the first that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

step() { printf '\n\033[1m== %s\033[0m\n' "$1"; }

# bindgen looks for libclang where this says, or in the usual folders.
if [ -z "${LIBCLANG_PATH:-}" ]; then
  for folder in /usr/lib/llvm-*/lib; do
    if compgen -G "$folder/libclang*.so*" >/dev/null; then export LIBCLANG_PATH=$folder; fi
  done
fi

step 'Rust tests, with the xgboost backend'
cargo test --workspace --features ev-server/xgboost

step 'Other languages: the v2 protocol from Python, and XGBoost itself'
EVSERVE_BIN=$target/debug/evserve clients/conformance/run.sh

step 'Instructions of the hot path'
benches/hotpath.sh

printf '\nAll tests passed.\n'
