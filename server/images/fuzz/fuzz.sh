#!/bin/sh
# Fuzzes the way from a file to a tensor: fuzz.sh 600 runs for 600 seconds. The seeds are the golden pictures.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
mkdir -p corpus/picture
for picture in ../tests/golden/*.png ../tests/golden/*.jpg ../tests/golden/*.webp; do
    case $picture in *.expected.png) continue ;; esac
    cp "$picture" "corpus/picture/$(basename "$picture")"
done
export RUSTC_BOOTSTRAP=1
exec cargo fuzz run --sanitizer none picture -- \
    -max_total_time="$seconds" -max_len=16384 -rss_limit_mb=512 -malloc_limit_mb=64 -timeout=5 -dict=picture.dict
