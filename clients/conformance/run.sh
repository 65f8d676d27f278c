#!/usr/bin/env bash
# Runs clients that others wrote, Triton's among them, against an evserve of its own.
#
#   EVSERVE_BIN=target/debug/evserve clients/conformance/run.sh
#
# CONFORMANCE_VENV: where the Python packages go (default: .venv beside this script), kept for the next run.
# PERF_ANALYZER=no: leave the load tool out.
# DATA=/path/to/data: ask about a photo of ev_images_8class as well, and expect its class.
set -euo pipefail

evserve=$(realpath "${EVSERVE_BIN:?set EVSERVE_BIN to the evserve program, such as target/debug/evserve}")
data=${DATA:+$(realpath "$DATA")}
cd "$(dirname "${BASH_SOURCE[0]}")"
venv=$(realpath -m "${CONFORMANCE_VENV:-.venv}")
python=${PYTHON:-python3}

if ! cmp -s requirements.txt "$venv/installed.txt"; then
    "$python" -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
    cp requirements.txt "$venv/installed.txt"
fi

scratch=$(mktemp -d)
server=
stop() {
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    rm -rf "$scratch"
}
trap stop EXIT

EVSERVE_OBSERVABILITY__LOG=info EVSERVE_OBSERVABILITY__LOG_FORMAT=text "$evserve" serve \
    --data-directory "$scratch/data" --grpc-address 127.0.0.1:0 --telemetry-address 127.0.0.1:0 --http-address 127.0.0.1:0 >"$scratch/log" 2>&1 &
server=$!
address=
for _ in $(seq 600); do
    address=$(sed -n 's/.*evserve ready grpc=\([0-9.:]*\).*/\1/p' "$scratch/log")
    [ -n "$address" ] && break
    if ! kill -0 "$server" 2>/dev/null; then
        cat "$scratch/log" >&2
        exit 1
    fi
    sleep 0.1
done
if [ -z "$address" ]; then
    echo "evserve was not ready within a minute:" >&2
    cat "$scratch/log" >&2
    exit 1
fi

export PYTHONDONTWRITEBYTECODE=1
"$venv/bin/python" oip_tritonclient.py "$address"
"$venv/bin/python" vision.py "$address"
photo=${data:+$data/ev_images_8class/test/RIVIAN_R1T/0003.jpg}
if [ -n "$photo" ] && [ -f ../../models/zoo/vehicle-classifier/manifest.toml ]; then
    # Pillow's JPEG decoder and the server's differ by a few of 255 levels, which shows in the tensor's answer.
    "$venv/bin/python" vision.py "$address" "$photo" --model vehicle-classifier --expect RIVIAN_R1T --tolerance 0.02
fi
./grpc_web.sh "$address"
if [ "${PERF_ANALYZER:-yes}" != no ]; then
    ./perf_analyzer.sh "$venv" "$address"
fi
