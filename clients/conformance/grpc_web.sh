#!/usr/bin/env bash
# Calls the server over gRPC-Web with a client that others wrote: `buf curl`, over HTTP/1.1 and over HTTP/2.
#
#   clients/conformance/grpc_web.sh 127.0.0.1:50051
#
# Skipped where buf cannot be had: it comes from npm.
set -euo pipefail

address=$1
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

skip() {
    echo "grpc_web: skipped, $1"
    exit 0
}

fail() {
    echo "grpc_web: $1" >&2
    printf '%s\n' "$2" >&2
    exit 1
}

command -v npm >/dev/null || skip "buf needs npm (Debian, Ubuntu: apt-get install npm)"
scripts/buf.sh --version >/dev/null 2>&1 || skip "buf cannot be installed from npm"

car='{"make":"Tesla","model":"Model 3","batteryCapacityKwh":60}'
for version in "" --http2-prior-knowledge; do
    # Without --schema buf asks the server's reflection, over gRPC-Web as well.
    call() {
        # shellcheck disable=SC2086
        scripts/buf.sh curl --protocol grpcweb $version "$@" 2>&1
    }
    answer=$(call -d "$car" "http://$address/ev.range.v1.RangePrediction/Predict") || fail "Predict failed" "$answer"
    grep -q '"rangeQ50Km": [1-9]' <<<"$answer" || fail "Predict answered something else" "$answer"

    requests=$(for id in 1 2 3; do printf '{"id":%d,"request":%s}\n' "$id" "$car"; done)
    answer=$(call -d @- "http://$address/ev.range.v1.RangePrediction/PredictStream" <<<"$requests") ||
        fail "PredictStream failed" "$answer"
    [ "$(grep -c '"rangeQ50Km": [1-9]' <<<"$answer")" = 3 ] || fail "PredictStream answered something else" "$answer"

    refused='{"make":"Tesla","model":"Model 3","batteryCapacityKwh":60000}'
    if answer=$(call -d "$refused" "http://$address/ev.range.v1.RangePrediction/Predict"); then
        fail "an implausible capacity was accepted" "$answer"
    fi
    for word in '"code": "invalid_argument"' 'is 60000, expected 1 to 1000 kWh' google.rpc.ErrorInfo google.rpc.BadRequest; do
        grep -q "$word" <<<"$answer" || fail "the refusal lacks $word" "$answer"
    done
done
echo "grpc_web: unary, stream, refusal with details and reflection by buf curl $(scripts/buf.sh --version), over HTTP/1.1 and HTTP/2"
