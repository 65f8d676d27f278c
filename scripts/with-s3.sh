#!/usr/bin/env bash
# Runs a command beside an S3 server of its own, in memory and on a free port. The command finds it by EVSERVE_TEST_S3,
# with its keys in EVSERVE_TEST_S3_ACCESS_KEY_ID and EVSERVE_TEST_S3_SECRET_ACCESS_KEY, and an empty bucket `evserve-test`.
# Without Python and its packages the command runs all the same, and says what it skipped; in CI that is an error.
#   scripts/with-s3.sh COMMAND...
set -euo pipefail

if [ -n "${EVSERVE_TEST_S3:-}" ]; then
  exec "$@"
fi
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
python=${PYTHON:-python3}
venv=$here/../.cache/s3
install() {
  cmp -s "$here/s3/requirements.txt" "$venv/installed.txt" && return
  "$python" -m venv --clear "$venv" &&
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$here/s3/requirements.txt" &&
    cp "$here/s3/requirements.txt" "$venv/installed.txt"
}
if ! install; then
  echo "with-s3.sh: without Python and its packages no S3 server runs" >&2
  if [ -n "${CI:-}" ]; then exit 1; fi
  exec "$@"
fi

scratch=$(mktemp -d)
: >"$scratch/settings"
"$venv/bin/python" "$here/s3/server.py" >>"$scratch/settings" &
server=$!
stop() {
  kill "$server" 2>/dev/null || true
  wait "$server" || true
  rm -rf "$scratch"
}
trap stop EXIT
until grep -q '^ready$' "$scratch/settings"; do
  kill -0 "$server" 2>/dev/null || { echo "with-s3.sh: the S3 server did not start" >&2; exit 1; }
  sleep 0.1
done
settings=$(grep '^EVSERVE_TEST_S3' "$scratch/settings")
eval "export $(tr '\n' ' ' <<<"$settings")"
"$@"
