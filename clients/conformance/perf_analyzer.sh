#!/usr/bin/env bash
# Runs Triton's load tool, as its wheel has it, and compares what it counted with what the server counted.
#
#   clients/conformance/perf_analyzer.sh VENV 127.0.0.1:50051
#
# Skipped where the tool cannot be had: it is an x86-64 Linux program that needs libb64 and the CUDA runtime library.
set -euo pipefail

venv=$(realpath "$1")
address=$2
cd "$(dirname "${BASH_SOURCE[0]}")"
tool=$venv/bin/perf_analyzer
libraries=$venv/perf_analyzer-libraries

skip() {
    echo "perf_analyzer: skipped, $1"
    exit 0
}

[ "$(uname -sm)" = "Linux x86_64" ] || skip "it is built for x86-64 Linux"
[ -f "$tool" ] || skip "the tritonclient wheel of this platform does not have it"
chmod +x "$tool"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r perf_analyzer.txt ||
    skip "the CUDA runtime library cannot be installed"
cuda=$("$venv/bin/python" -c 'import nvidia.cuda_runtime as c; print(list(c.__path__)[0] + "/lib")')

if ! ldconfig -p 2>/dev/null | grep -q 'libb64\.so\.0d' && [ ! -d "$libraries" ]; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip "libb64 is not installed"
    package=$(mktemp -d)
    (cd "$package" && apt-get download -qq libb64-0d >/dev/null 2>&1 && dpkg-deb -x libb64-0d_*.deb "$libraries") || {
        rm -rf "$package"
        skip "libb64 is not installed and cannot be downloaded; install it with: apt-get install libb64-0d"
    }
    rm -rf "$package"
fi
export LD_LIBRARY_PATH="$cuda:$libraries/usr/lib/x86_64-linux-gnu"
if missing=$(ldd "$tool" | grep 'not found'); then
    skip "it lacks: $missing"
fi

analyze() {
    "$tool" -m ev-range -i grpc -u "$address" --input-data perf_analyzer.json "$@"
}

# A loaded machine never measures within 10 % of itself, and this asks whether the tool runs, not how fast.
steady=(--measurement-mode count_windows --measurement-request-count 500 --stability-percentage 999)
analyze --concurrency-range 1:4 "${steady[@]}"
analyze --concurrency-range 4 --streaming --async "${steady[@]}"
analyze --concurrency-range 2 -b 64 "${steady[@]}"

requests=1000
concurrency=4
before=$("$venv/bin/python" counts.py "$address" ev-range)
analyze --concurrency-range $concurrency --request-count $requests | tee "$venv/perf_analyzer.log"
after=$("$venv/bin/python" counts.py "$address" ev-range)
counted() { sed -n "s/^ *$1: \([0-9]*\)\$/\1/p" "$venv/perf_analyzer.log" | head -n 1; }
[ "$(counted 'Request count')" = "$requests" ] || {
    echo "perf_analyzer: expected Request count: $requests" >&2
    exit 1
}
# The tool asks the server for its first counts while its workers already send: it may miss one request of each.
for line in "Inference count" "Execution count" "Successful request count"; do
    count=$(counted "$line")
    if [ "${count:-0}" -lt $((requests - concurrency)) ] || [ "$count" -gt $requests ]; then
        echo "perf_analyzer: expected $line: $requests, found ${count:-none}" >&2
        exit 1
    fi
done
if [ "$((before + requests))" != "$after" ]; then
    echo "perf_analyzer: the server counted $before, then $after after $requests requests" >&2
    exit 1
fi
echo "perf_analyzer: ok, the server counted exactly the $requests requests it was sent"
