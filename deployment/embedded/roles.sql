-- The roles of the installation; run as superuser, as often as you like. Passwords are set elsewhere.
--   claytom_owner    owns database, schema and tables; nobody logs in as it
--   claytom_migrator logs in for migrations and acts as claytom_owner
--   claytom_app      the portal's processes; subject to row-level security
--   claytom_ingest   the ingest process; COPY is not possible under row-level security

do $$
declare
    name text;
begin
    foreach name in array array['claytom_owner', 'claytom_migrator', 'claytom_app', 'claytom_ingest'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I', name);
        end if;
    end loop;
end
$$;

alter role claytom_owner    nologin nosuperuser nobypassrls nocreatedb nocreaterole noreplication;
alter role claytom_migrator login   nosuperuser nobypassrls nocreatedb nocreaterole noreplication;
alter role claytom_app      login   nosuperuser nobypassrls nocreatedb nocreaterole noreplication;
alter role claytom_ingest   login   nosuperuser bypassrls   nocreatedb nocreaterole noreplication;

grant claytom_owner to claytom_migrator;
-- Whatever client logs in as the migrator creates objects that belong to the owner.
alter role claytom_migrator set role = 'claytom_owner';
