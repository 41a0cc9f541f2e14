"""Blueprint versions are drafted, approved and revoked; what is approved never changes, and agents are of it only.

The versions that were loaded are approved ones: the holding's file is a decision of whoever loads it.
"""

from django.db import migrations, models
from django.db.models import F, Q

OLD_RULE = """
create function holding_refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% of % is refused: a blueprint version is immutable; write the next version.',
        tg_op, tg_table_name using errcode = 'integrity_constraint_violation';
end $$;
create trigger immutable before update or delete on holding_blueprintversion
    for each row execute function holding_refuse_change();
"""
OLD_GONE = "drop trigger immutable on holding_blueprintversion; drop function holding_refuse_change();"
LOADED = """
update holding_blueprintversion
   set state = 'approved', approved_at = created_at, approved_by = 'whoever loads the holding';
"""
VERSIONS = """
create function holding_keep_version() returns trigger language plpgsql as $$
declare
    why text;
begin
    if tg_op = 'INSERT' then
        if new.state <> 'draft' then
            raise exception 'A blueprint version begins as a draft, not %.', new.state
                using errcode = 'integrity_constraint_violation';
        end if;
        return new;
    end if;
    if tg_op = 'DELETE' then
        why := 'a blueprint version is immutable; withdraw a draft, revoke what is approved';
    elsif (new.id, new.blueprint_id, new.version, new.author, new.created_at)
          is distinct from (old.id, old.blueprint_id, old.version, old.author, old.created_at) then
        why := 'whose version it is, its number and its author are immutable';
    elsif old.state in ('revoked', 'withdrawn') then
        why := 'a version that was revoked or withdrawn is immutable';
    elsif new.state <> old.state and (old.state, new.state) not in
          (('draft', 'approved'), ('draft', 'withdrawn'), ('approved', 'revoked')) then
        why := format('a version that is %s does not become %s', old.state, new.state);
    elsif (old.state, new.state) <> ('draft', 'draft')
          and (new.spec, new.digest, new.note) is distinct from (old.spec, old.digest, old.note) then
        why := 'a blueprint version is immutable once it was approved; write the next version';
    elsif old.state = 'approved'
          and (new.approved_at, new.approved_by) is distinct from (old.approved_at, old.approved_by) then
        why := 'who approved a version, and when, is immutable';
    end if;
    if why is not null then
        raise exception '% of % is refused: %.', tg_op, tg_table_name, why
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;
create trigger kept before insert or update or delete on holding_blueprintversion
    for each row execute function holding_keep_version();
"""
VERSIONS_BACK = "drop trigger kept on holding_blueprintversion; drop function holding_keep_version();"
# By statement, so that a load of 52,550 agents asks once.
AGENTS = """
create function holding_only_approved() returns trigger language plpgsql as $$
declare
    refused text;
begin
    select format('%s v%s is %s', b.slug, v.version, v.state) into refused
      from holding_blueprintversion v join holding_blueprint b on b.id = v.blueprint_id
     where v.state <> 'approved' and exists (select from added where added.blueprint_id = v.id)
     limit 1;
    if refused is not null then
        raise exception 'No agent is made by a version that is not approved: %.', refused
            using errcode = 'integrity_constraint_violation';
    end if;
    return null;
end $$;
create trigger only_approved after insert on holding_agent referencing new table as added
    for each statement execute function holding_only_approved();

create function holding_keep_recipe() returns trigger language plpgsql as $$
begin
    raise exception 'Agent % keeps the version that made it; its seat gets its next agent.', old.agent_id
        using errcode = 'integrity_constraint_violation';
end $$;
create trigger kept_recipe before update of blueprint_id on holding_agent
    for each row when (new.blueprint_id <> old.blueprint_id) execute function holding_keep_recipe();
"""
AGENTS_BACK = """
drop trigger only_approved on holding_agent;
drop trigger kept_recipe on holding_agent;
drop function holding_only_approved();
drop function holding_keep_recipe();
"""
STATES = [("draft", "draft"), ("approved", "approved"), ("revoked", "revoked"), ("withdrawn", "withdrawn")]


def _field(name: str, field: models.Field) -> migrations.AddField:
    return migrations.AddField("blueprintversion", name, field)


def _rule(name: str, condition: Q) -> migrations.AddConstraint:
    return migrations.AddConstraint("blueprintversion", models.CheckConstraint(condition=condition, name=name))


class Migration(migrations.Migration):
    dependencies = [("holding", "0010_stages")]

    operations = [
        migrations.RunSQL(OLD_GONE, OLD_RULE),
        _field("note", models.CharField(blank=True, default="", max_length=500, verbose_name="what it is for")),
        _field("state", models.CharField(choices=STATES, default="draft", max_length=10, verbose_name="state")),
        _field("approved_at", models.DateTimeField(null=True, verbose_name="approved at")),
        _field("approved_by", models.CharField(blank=True, default="", max_length=200, verbose_name="approved by")),
        _field("ended_at", models.DateTimeField(null=True, verbose_name="revoked or withdrawn at")),
        _field(
            "ended_by",
            models.CharField(blank=True, default="", max_length=200, verbose_name="revoked or withdrawn by"),
        ),
        _field(
            "ended_why",
            models.CharField(
                blank=True, default="", max_length=500, verbose_name="why it was revoked or withdrawn"
            ),
        ),
        _field("halted_at", models.DateTimeField(null=True, verbose_name="halted at")),
        _field(
            "halted_why", models.CharField(blank=True, default="", max_length=500, verbose_name="why it is halted")
        ),
        migrations.RunSQL(LOADED, migrations.RunSQL.noop),
        _rule("blueprint_version_digest", Q(digest__regex="^[0-9a-f]{64}$")),
        _rule(
            "blueprint_version_approved",
            Q(state__in=("draft", "withdrawn"), approved_at=None, approved_by="")
            | (Q(state__in=("approved", "revoked"), approved_at__isnull=False) & ~Q(approved_by="")),
        ),
        _rule("blueprint_version_four_eyes", ~Q(approved_by=F("author"))),
        _rule(
            "blueprint_version_ended",
            Q(state__in=("draft", "approved"), ended_at=None)
            | Q(state__in=("revoked", "withdrawn"), ended_at__isnull=False),
        ),
        migrations.RunSQL(VERSIONS, VERSIONS_BACK),
        migrations.RunSQL(AGENTS, AGENTS_BACK),
    ]
