-- Ownership and default privileges inside the database `claytom`; run as superuser, as often as you like.

revoke all on database claytom from public;
grant connect, temporary on database claytom to claytom_app, claytom_ingest, claytom_migrator;

alter schema public owner to claytom_owner;
revoke all on schema public from public;
grant usage on schema public to claytom_app, claytom_ingest;

alter default privileges for role claytom_owner in schema public
    grant select, insert, update, delete on tables to claytom_app, claytom_ingest;
alter default privileges for role claytom_owner in schema public
    grant usage, select on sequences to claytom_app, claytom_ingest;
