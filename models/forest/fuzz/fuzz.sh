#!/bin/sh
# Fuzzes the loader: fuzz.sh json 600 runs the target `json` for 600 seconds.
# The seeds are the golden models, less the bytes that the target puts before its input.
set -eu
cd "$(dirname "$0")"
target=$1
seconds=${2:-60}
case $target in
json) suffix=json skip=3 ;;
ubjson) suffix=ubj skip=2 ;;
*) echo "targets: json, ubjson" >&2; exit 2 ;;
esac
mkdir -p "corpus/$target"
for model in ../tests/golden/*/*."$suffix"; do
    case $model in *.golden.json) continue ;; esac
    # Small ones: the fuzzer gets further with short inputs.
    if [ "$(wc -c < "$model")" -lt 8000 ]; then
        tail -c "+$skip" "$model" > "corpus/$target/$(echo "$model" | tr -c 'a-z0-9\n' '-')"
    fi
done
export RUSTC_BOOTSTRAP=1
exec cargo fuzz run --sanitizer none "$target" -- \
    -max_total_time="$seconds" -max_len=16384 -rss_limit_mb=1024 -malloc_limit_mb=256 -timeout=5 -dict="$target.dict"
