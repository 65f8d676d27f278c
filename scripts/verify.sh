#!/usr/bin/env bash
# The long forms of the tests.
#   scripts/verify.sh               all of them
#   scripts/verify.sh soak ...      some of: properties, kills, replicas, fuzz, soak
# Their lengths are set by FUZZ_SECONDS (1800 a target), PROPTEST_CASES (20000), KILLS (200), SOAK_SECONDS (600).
# Every part prints a row for docs/verification.md when it has passed, and the commit comes last.
set -euo pipefail
cd "$(dirname "$0")/.."
export PROPTEST_CASES=${PROPTEST_CASES:-20000}
fuzz_seconds=${FUZZ_SECONDS:-1800}
kills=${KILLS:-200}
soak_seconds=${SOAK_SECONDS:-600}
# Requests a second of the soak: a small share of what a server can do, so that a busy machine keeps up.
rate=2000
target=${CARGO_TARGET_DIR:-target}

logs=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$logs"' EXIT
rows=()
step() { printf '\n\033[1m== %s\033[0m\n' "$1"; }
passed() { rows+=("| $1 | passed |"); printf '\n%s\n' "${rows[-1]}"; }

properties() {
  step "properties, $PROPTEST_CASES cases each"
  cargo test --release --package ev-models-forest --package ev-models-core --package ev-domain --package ev-registry --package ev-batching \
    --package ev-features --package ev-images
  passed "properties, PROPTEST_CASES=$PROPTEST_CASES"
}

# Runs the tests whose names contain a word. cargo test finds nothing wrong with a word that no name contains.
matching() {
  local filter=$1 output
  shift
  output=$(cargo test --release "$@" "$filter" 2>&1) || { printf '%s\n' "$output" >&2; return 1; }
  grep -Eq '^test result: ok\. [1-9][0-9]* passed' <<<"$output" ||
    { printf 'no test of "%s" matches "%s"\n' "$*" "$filter" >&2; return 1; }
}

kills() {
  step "kill -9 at least $kills times"
  cargo test --release --package ev-registry --package ev-server --no-run
  # One run of the crash test kills an importing process four times; the two of the server kill it five times and once.
  local done
  for ((done = 0; done < kills; done += 10)); do
    matching after_a_kill --package ev-registry --test registry
    matching a_death --package ev-server --test it
    printf '\r%d kills' "$((done + 10))"
  done
  passed "kill -9 in mid-import and during start, $done times"
  step "kill -9 $kills times under streaming gateways"
  EVSERVE_TEST_KILLS=$kills matching lose_nothing_when_the_server_is_killed --package ev-server --test it
  passed "kill -9 while gateways stream and resume, $kills times: everything durable is there once, the gap ledger exact"
}

replicas() {
  step "three servers on one PostgreSQL: deaths at every step of a rollout, outages of 30 s"
  cargo build --release --package evctl --package ev-server
  EVSERVE_TEST_PROCESSES=long matching registry_processes --package ev-server --test it
  passed "three servers on one PostgreSQL: 28 deaths of a server, 5 outages of 30 s, 20 deaths of the database, 100 races for an alias"
}

fuzz() {
  command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
  step "fuzzing the json and ubjson loaders and the pictures side by side, $fuzz_seconds s each"
  local fuzzers=() format fuzzer runs
  for format in json ubjson; do
    models/forest/fuzz/fuzz.sh "$format" "$fuzz_seconds" >"$logs/$format" 2>&1 &
    fuzzers+=("$!")
  done
  server/images/fuzz/fuzz.sh "$fuzz_seconds" >"$logs/picture" 2>&1 &
  fuzzers+=("$!")
  for fuzzer in "${fuzzers[@]}"; do wait "$fuzzer" || { tail -n 40 "$logs"/*; exit 1; }; done
  for format in json ubjson picture; do
    runs=$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$logs/$format")
    passed "fuzzing: $format, $fuzz_seconds s, ${runs:?the fuzzer did not end by itself} runs"
  done
}

resident() { awk '/^VmRSS/ { print $2 }' "/proc/$server/status"; }
load() { "$target/release/ev-loadtests" --endpoint 127.0.0.1:50951 --rate "$rate" --duration "$1"; }

soak() {
  step "soak, $soak_seconds s"
  cargo build --release --package ev-server --package ev-loadtests
  "$target/release/evserve" demo --vehicles 0 --grpc-address 127.0.0.1:50951 --telemetry-address 127.0.0.1:50952 --http-address 127.0.0.1:50980 --set observability.log=warn &
  server=$!
  until curl --silent --fail 127.0.0.1:50980/readyz >/dev/null; do sleep 0.2; done
  local before after
  load 20s
  before=$(resident)
  load "${soak_seconds}s"
  after=$(resident)
  echo "resident memory: $before kB after 20 s, $after kB after $soak_seconds s more"
  [ "$after" -le $((before + before / 20)) ] || { echo 'resident memory grew by more than 5 %' >&2; exit 1; }
  passed "soak, $rate requests/s for $soak_seconds s: resident memory $before kB, then $after kB"
}

[ "$#" -gt 0 ] || set -- properties kills replicas fuzz soak
for part in "$@"; do
  case $part in
    properties | kills | replicas | fuzz | soak) "$part" ;;
    *) echo "unknown: $part; there are properties, kills, replicas, fuzz, soak" >&2; exit 2 ;;
  esac
done
printf '\ncommit %s, %s\n\n| what | result |\n|---|---|\n' "$(git rev-parse --short HEAD)" "$(date -u +%F)"
printf '%s\n' "${rows[@]}"
