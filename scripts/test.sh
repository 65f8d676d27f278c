#!/usr/bin/env bash
# Everything `make test` runs, in order, each step with its name. Stops at the first that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

step() { printf '\n\033[1m== %s\033[0m\n' "$1"; }

# Where bindgen finds libclang; scripts/setup.sh says why this version.
if [ -z "${LIBCLANG_PATH:-}" ] && [ -d /usr/lib/llvm-14/lib ]; then export LIBCLANG_PATH=/usr/lib/llvm-14/lib; fi

step 'Rust tests, with the xgboost backend'
scripts/with-postgres.sh scripts/with-s3.sh cargo test --workspace --features ev-server/xgboost

step 'Other languages: the v2 protocol from Python, and XGBoost itself'
EVSERVE_BIN=$target/debug/evserve clients/conformance/run.sh

step 'Instructions of the hot path'
benches/hotpath.sh

printf '\nAll tests passed.\n'
