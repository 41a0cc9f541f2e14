"""The ledger's tables refuse UPDATE, DELETE and TRUNCATE: by privilege for the app, by trigger for anybody."""

from django.db import migrations

FORWARD = """
create function ledger_refuse() returns trigger language plpgsql as $$
begin
    raise exception 'The ledger is append-only: % on % is refused.', tg_op, tg_table_name
        using errcode = 'insufficient_privilege', hint = 'Write a new entry that corrects the old one.';
end $$;

create trigger append_only before update or delete on audit_ledgerentry
    for each row execute function ledger_refuse();
create trigger append_only before update or delete on audit_leaf
    for each row execute function ledger_refuse();
create trigger append_only before update or delete on audit_treehead
    for each row execute function ledger_refuse();
create trigger no_truncate before truncate on audit_ledgerentry
    for each statement execute function ledger_refuse();
create trigger no_truncate before truncate on audit_leaf
    for each statement execute function ledger_refuse();
create trigger no_truncate before truncate on audit_treehead
    for each statement execute function ledger_refuse();

do $$
declare role text;
begin
    foreach role in array array['claytom_app', 'claytom_ingest'] loop
        if exists (select from pg_roles where rolname = role) then
            execute format(
                'revoke update, delete, truncate on audit_ledgerentry, audit_leaf, audit_treehead from %I', role
            );
        end if;
    end loop;
end $$;
"""
BACKWARD = """
drop trigger append_only on audit_ledgerentry;
drop trigger append_only on audit_leaf;
drop trigger append_only on audit_treehead;
drop trigger no_truncate on audit_ledgerentry;
drop trigger no_truncate on audit_leaf;
drop trigger no_truncate on audit_treehead;
drop function ledger_refuse();
do $$
declare role text;
begin
    foreach role in array array['claytom_app', 'claytom_ingest'] loop
        if exists (select from pg_roles where rolname = role) then
            execute format('grant update, delete on audit_ledgerentry, audit_leaf, audit_treehead to %I', role);
        end if;
    end loop;
end $$;
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
