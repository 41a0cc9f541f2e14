#!/bin/sh
# Runs once, at the first start of the database's volume, after roles.sql and database.sql.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname claytom \
    --set migrator="$CLAYTOM_MIGRATOR" --set app="$CLAYTOM_APP" --set ingest="$CLAYTOM_INGEST" <<'SQL'
alter role claytom_migrator password :'migrator';
alter role claytom_app password :'app';
alter role claytom_ingest password :'ingest';
alter database claytom owner to claytom_owner;
SQL
