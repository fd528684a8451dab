#!/bin/sh
# What the real image does with POSTGRES_USER, POSTGRES_DB and POSTGRES_PASSWORD_FILE, and no more.
set -eu
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  chown postgres:postgres "$PGDATA"
  password=$(mktemp)
  cp "$POSTGRES_PASSWORD_FILE" "$password"
  chown postgres "$password"
  as_postgres initdb -D "$PGDATA" -U "$POSTGRES_USER" --pwfile="$password" -A scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
  rm "$password"
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  echo "local all all trust" >"$PGDATA/pg_hba.first"
  cat "$PGDATA/pg_hba.conf" >>"$PGDATA/pg_hba.first"
  as_postgres pg_ctl -D "$PGDATA" -w -o "-c listen_addresses='' -c hba_file=$PGDATA/pg_hba.first" start
  as_postgres createdb -h /var/run/postgresql -U "$POSTGRES_USER" "$POSTGRES_DB"
  as_postgres pg_ctl -D "$PGDATA" -w stop
fi
exec setpriv --reuid postgres --regid postgres --init-groups "$@" -c listen_addresses='*'
