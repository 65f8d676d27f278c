#!/bin/sh
# Builds with the profile that is shipped, and measures. Tables with budgets go to standard output.
#
#   benches/run.sh             everything
#   benches/run.sh grpc        one of: forest, grpc, start, shapes, alerts, hotpath, vision, images; further arguments go to it
#
# Two processors are enough; nothing else should run on them. h2load (Debian: nghttp2-client) and valgrind are used where installed.
set -eu
cd "$(dirname "$0")/.."
what=${1:-all}
[ "$#" -eq 0 ] || shift
build() {
    cargo build --quiet --profile dist --bins -p ev-server -p ev-loadtests -p ev-benches --features ev-benches/server
}
vision() {
    scripts/onnxruntime.sh
    cargo build --quiet --profile dist --bin vision -p ev-benches --features ev-benches/vision
    taskset -c 1 "$bin/vision" "$@"
}
images() {
    scripts/onnxruntime.sh
    build
    cargo build --quiet --profile dist --bin evctl -p evctl
    cargo build --quiet --profile dist --bin images -p ev-benches --features ev-benches/images
    "$bin/images" "$@"
}
bin=${CARGO_TARGET_DIR:-target}/dist
case $what in
    all)
        build
        echo '== forest'; benches/run_forest.sh --table
        for bench in grpc start shapes; do echo; echo "== $bench"; "$bin/$bench"; done
        echo; echo '== alerts'; taskset -c 1 "$bin/alerts"
        echo; echo '== hotpath'
        benches/hotpath.sh
        echo; echo '== vision'
        vision
        echo; echo '== images'
        images
        ;;
    forest) benches/run_forest.sh "$@" ;;
    hotpath) benches/hotpath.sh "$@" ;;
    vision) vision "$@" ;;
    images) images "$@" ;;
    alerts) build; taskset -c 1 "$bin/alerts" "$@" ;;
    grpc | start | shapes) build; "$bin/$what" "$@" ;;
    *) echo "unknown: $what; there are forest, grpc, start, shapes, alerts, hotpath, vision, images" >&2; exit 2 ;;
esac
