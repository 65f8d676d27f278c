#!/usr/bin/env bash
# Runs a command beside a PostgreSQL server of its own, on a free port and in a temporary folder: what it keeps is gone
# afterwards. The command finds it by EVSERVE_TEST_POSTGRES. Without PostgreSQL the command runs all the same, and says
# what it skipped.
#   scripts/with-postgres.sh COMMAND...
set -euo pipefail

programs=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1 || true)
if [ -n "${EVSERVE_TEST_POSTGRES:-}" ] || [ -z "$programs" ]; then
  exec "$@"
fi

scratch=$(mktemp -d)
# PostgreSQL refuses to run as root.
as=()
if [ "$(id -u)" -eq 0 ]; then
  id postgres >/dev/null 2>&1 || exec "$@"
  chown postgres "$scratch"
  as=(runuser -u postgres --)
fi
stop() {
  (cd / && "${as[@]}" "$programs/pg_ctl" --pgdata "$scratch/data" --mode immediate --silent stop) || true
  rm -rf "$scratch"
}
trap stop EXIT

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
(
  cd /
  "${as[@]}" "$programs/initdb" --pgdata "$scratch/data" --username evserve --auth trust --no-sync >"$scratch.log"
  "${as[@]}" "$programs/pg_ctl" --pgdata "$scratch/data" --log "$scratch/log" --wait --silent \
    --options "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$scratch" start
)
rm -f "$scratch.log"
EVSERVE_TEST_POSTGRES="postgres://evserve@127.0.0.1:$port/postgres" "$@"
