#!/bin/sh
# Entry point of the image that stands in for PostgreSQL's: what the compose file relies on.
set -eu
export PGDATA=/var/lib/postgresql/18/docker
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # shellcheck disable=SC2086
  initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-host=scram-sha-256 \
    --auth-local=trust ${POSTGRES_INITDB_ARGS:-}
  printf "listen_addresses = '*'\nunix_socket_directories = '/run/postgresql'\n" \
    >> "$PGDATA/postgresql.conf"
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  pg_ctl start --wait --options="-c listen_addresses="
  createdb --host=/run/postgresql --username="$POSTGRES_USER" "$POSTGRES_DB"
  pg_ctl stop --wait --mode=fast
fi
exec "$@"
