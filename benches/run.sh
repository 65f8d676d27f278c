#!/bin/sh
# Builds with the profile that is shipped, and measures. Tables with budgets go to standard output.
#
#   benches/run.sh             everything
#   benches/run.sh grpc        one of: forest, grpc, start, shapes, alerts, telemetry, features, redis, hotpath, vision,
#                              images, swap; further arguments go to it
#
# Two processors are enough; nothing else should run on them. h2load (Debian: nghttp2-client), valgrind, PostgreSQL and
# redis-server are used where installed.
set -eu
cd "$(dirname "$0")/.."
# ONNX Runtime beside the server must not do what it does not do in it: report to its maker.
export ORT_DISABLE_TELEMETRY=1
what=${1:-all}
[ "$#" -eq 0 ] || shift
build() {
    cargo build --quiet --profile dist --bins -p ev-server -p evctl -p ev-loadtests -p ev-benches --features ev-benches/server
}
vision() {
    scripts/onnxruntime.sh
    cargo build --quiet --profile dist --bin vision -p ev-benches --features ev-benches/vision
    taskset -c 1 "$bin/vision" "$@"
}
images() {
    scripts/onnxruntime.sh
    build
    cargo build --quiet --profile dist --bin images -p ev-benches --features ev-benches/images
    "$bin/images" "$@"
}
# What callers notice of swaps, rollbacks and shadows, and what a thousand reloads leave in memory; with arguments, what
# they ask for.
swap() {
    scripts/onnxruntime.sh
    cargo build --quiet --profile dist --bins -p ev-server -p ev-loadtests
    if [ "$#" -gt 0 ]; then
        taskset -c 1 "$bin/ev-loadtests" swap "$@"
        return
    fi
    failed=0
    for model in ev-range vehicle-classifier; do
        for question in '--swaps 100' '--warm --swaps 100' '--rollback' '--cycles 1000'; do
            # shellcheck disable=SC2086
            taskset -c 1 "$bin/ev-loadtests" swap --model-directory "models/zoo/$model" $question || failed=1
        done
    done
    # Pictures are not kept, so that image models have no shadow that costs anything.
    taskset -c 1 "$bin/ev-loadtests" swap --shadow || failed=1
    return "$failed"
}
# What becomes durable in SQLite and PostgreSQL, beside writing and syncing the same bytes.
telemetry() {
    data=$(mktemp -d)
    trap 'rm -rf "$data"' EXIT
    # What PostgreSQL's start and the build have written is not to be synced by what is measured.
    cargo build --quiet --profile dist -p ev-telemetry --example ingest
    scripts/with-postgres.sh sh -c 'sync; exec "$@"' sh "$bin/examples/ingest" "$data" "${1:-8}"
}
# What features and the thermal rule cost a reading, what a vehicle takes, and what Redis adds.
features() {
    cargo run --quiet --profile dist -p ev-alerts --example cost
    cargo run --quiet --profile dist -p ev-features --example measure
    if ! command -v redis-server > /dev/null; then
        echo 'Redis skipped: no redis-server (Debian, Ubuntu: apt-get install redis-server)'
        return
    fi
    socket=$(mktemp -u)
    redis-server --port 0 --unixsocket "$socket" --save '' --daemonize no > /dev/null &
    redis=$!
    trap 'kill "$redis"; rm -f "$socket"' EXIT
    until [ -S "$socket" ]; do sleep 0.1; done
    cargo run --quiet --profile dist -p ev-features --example redis -- "unix://$socket"
}
# What other requests notice of a Redis that is gone.
redis() {
    if ! command -v redis-server > /dev/null; then
        echo 'skipped: no redis-server (Debian, Ubuntu: apt-get install redis-server)'
        return
    fi
    taskset -c 1 "$bin/redis" "$@"
}
bin=${CARGO_TARGET_DIR:-target}/dist
case $what in
    all)
        build
        echo '== forest'; benches/run_forest.sh --table
        for bench in grpc start shapes; do echo; echo "== $bench"; "$bin/$bench"; done
        echo; echo '== alerts'; taskset -c 1 "$bin/alerts"
        echo; echo '== redis'; redis
        echo; echo '== telemetry'; (telemetry)
        echo; echo '== features'; (features)
        echo; echo '== hotpath'
        benches/hotpath.sh
        echo; echo '== vision'
        vision
        echo; echo '== images'
        images
        ;;
    forest) benches/run_forest.sh "$@" ;;
    hotpath) benches/hotpath.sh "$@" ;;
    telemetry) telemetry "$@" ;;
    features) features ;;
    vision) vision "$@" ;;
    images) images "$@" ;;
    swap) swap "$@" ;;
    alerts) build; taskset -c 1 "$bin/alerts" "$@" ;;
    redis) build; redis "$@" ;;
    grpc | start | shapes) build; "$bin/$what" "$@" ;;
    *) echo "unknown: $what; there are forest, grpc, start, shapes, alerts, telemetry, features, redis, hotpath, vision, images, swap" >&2; exit 2 ;;
esac
