#!/bin/sh
# As the official image does: makes the database on an empty volume, with the names and the password of the environment.
set -eu
as_postgres() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
if [ "${1:-}" != postgres ]; then
    exec "$@"
fi
export PGDATA="${PGDATA:-/var/lib/postgresql/18/docker}"
install -d -o postgres -g postgres -m 700 "$PGDATA"
install -d -o postgres -g postgres /var/run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?must be set}"
    install -o postgres -m 600 /dev/null /run/password
    printf '%s\n' "$POSTGRES_PASSWORD" > /run/password
    as_postgres initdb -U "${POSTGRES_USER:=postgres}" --pwfile=/run/password \
        --auth-host=scram-sha-256 --auth-local=trust --encoding=UTF8 --locale=C.UTF-8
    rm /run/password
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    if [ "${POSTGRES_DB:=$POSTGRES_USER}" != postgres ]; then
        echo "CREATE DATABASE \"$POSTGRES_DB\"" | as_postgres postgres --single -j postgres > /dev/null
    fi
fi
exec setpriv --reuid postgres --regid postgres --clear-groups \
    "$@" -c 'listen_addresses=*' -c unix_socket_directories=/var/run/postgresql
