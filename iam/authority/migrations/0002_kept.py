"""What the database itself refuses: changed history, a second pair of eyes that is the first, a skipped decision."""

from django.db import migrations

FORWARD = """
create function authority_refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% of % is refused: what was decided stays as it is.', tg_op, tg_table_name
        using errcode = 'integrity_constraint_violation';
end $$;
create trigger append_only before update or delete on authority_decision
    for each row execute function authority_refuse_change();
create trigger append_only before update or delete on authority_level
    for each row execute function authority_refuse_change();

-- Matters and offices: names and times may change, nothing that a judgement follows from.
create function authority_keep_meaning() returns trigger language plpgsql as $$
declare free text[] := array['name_es', 'name_en', 'sla_hours', 'expiry_hours', 'position'];
begin
    if tg_op = 'DELETE' or to_jsonb(new) - free <> to_jsonb(old) - free then
        raise exception '% of % % is refused: versions of the matrix are judged by it; make another one.',
            tg_op, tg_table_name, old.slug using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;
create trigger meaning before update or delete on authority_matter
    for each row execute function authority_keep_meaning();
create trigger meaning before update or delete on authority_office
    for each row execute function authority_keep_meaning();

-- Versions: a draft is free; an adopted one only ends.
create function authority_keep_version() returns trigger language plpgsql as $$
declare free text[] := array['status', 'valid_to'];
begin
    if old.status = 'draft' then
        return case when tg_op = 'DELETE' then old else new end;
    end if;
    if tg_op = 'DELETE' or old.status = 'superseded' or new.status = 'draft'
            or to_jsonb(new) - free <> to_jsonb(old) - free then
        raise exception 'Version % of the matrix was adopted and never changes; draft the next one.', old.number
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;
create trigger adopted before update or delete on authority_matrixversion
    for each row execute function authority_keep_version();

create function authority_keep_rules() returns trigger language plpgsql as $$
begin
    if exists (
        select from authority_matrixversion
        where id in (case when tg_op <> 'INSERT' then old.version_id end, case when tg_op <> 'DELETE' then new.version_id end)
          and status <> 'draft'
    ) then
        raise exception '% of a rule is refused: its version of the matrix was adopted; draft the next one.', tg_op
            using errcode = 'integrity_constraint_violation';
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end $$;
create trigger adopted before insert or update or delete on authority_rule
    for each row execute function authority_keep_rules();

-- Who held what: only an end is written, once, and never put off.
create function authority_keep_holder() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' or to_jsonb(new) - 'valid_to' <> to_jsonb(old) - 'valid_to'
            or (old.valid_to is not null and coalesce(new.valid_to, 'infinity') > old.valid_to) then
        raise exception '% of % is refused: only its end may be written, and never put off.', tg_op, tg_table_name
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;
create trigger effective before update or delete on authority_appointment
    for each row execute function authority_keep_holder();
create trigger effective before update or delete on authority_delegation
    for each row execute function authority_keep_holder();
create trigger effective before update or delete on authority_substitution
    for each row execute function authority_keep_holder();
create trigger effective before update or delete on authority_interest
    for each row execute function authority_keep_holder();
alter table authority_delegation
    add constraint delegation_of_holder foreign key (appointment_id, delegator_id)
        references authority_appointment (id, person_id);

-- Four eyes, and only while the request waits.
create function authority_check_decision() returns trigger language plpgsql as $$
declare asked record;
begin
    select requester_id, state into asked from authority_approval where id = new.approval_id for share;
    if new.person_id = asked.requester_id or new.acting_for_id = asked.requester_id then
        raise exception 'Approval %: the requester does not decide, nor does anybody in their stead.', new.approval_id
            using errcode = 'integrity_constraint_violation';
    end if;
    if asked.state <> 'pending' then
        raise exception 'Approval % is % and takes no decision.', new.approval_id, asked.state
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;
create trigger four_eyes before insert on authority_decision
    for each row execute function authority_check_decision();

create function authority_keep_approval() returns trigger language plpgsql as $$
declare free text[] := array['state', 'remind_at', 'escalate_at', 'settled_at', 'executed_at', 'failure'];
begin
    if tg_op = 'INSERT' then
        if new.state = 'pending' and not new.by_rule or new.state = 'approved' and new.by_rule then
            return new;
        end if;
        raise exception 'An approval begins as pending, or approved by rule; not as %.', new.state
            using errcode = 'integrity_constraint_violation';
    end if;
    if tg_op = 'DELETE' or to_jsonb(new) - free <> to_jsonb(old) - free then
        raise exception '% of approval % is refused: what was asked for stays as it is.', tg_op, old.id
            using errcode = 'integrity_constraint_violation';
    end if;
    if new.state <> old.state and (old.state, new.state) not in (
        ('pending', 'approved'), ('pending', 'rejected'), ('pending', 'expired'), ('pending', 'withdrawn'),
        ('approved', 'executed'), ('approved', 'failed')
    ) or new.state = old.state and old.state <> 'pending' then
        raise exception 'Approval % is % and does not become %.', old.id, old.state, new.state
            using errcode = 'integrity_constraint_violation';
    end if;
    if new.state in ('approved', 'rejected') and old.state = 'pending' and not exists (
        select from authority_decision
        where approval_id = old.id and verdict = case new.state when 'approved' then 'approve' else 'reject' end
    ) then
        raise exception 'Approval % cannot be %: nobody decided so.', old.id, new.state
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;
create trigger kept before insert or update or delete on authority_approval
    for each row execute function authority_keep_approval();
"""
BACKWARD = """
drop trigger kept on authority_approval;
drop trigger four_eyes on authority_decision;
alter table authority_delegation drop constraint delegation_of_holder;
drop trigger effective on authority_interest;
drop trigger effective on authority_substitution;
drop trigger effective on authority_delegation;
drop trigger effective on authority_appointment;
drop trigger adopted on authority_rule;
drop trigger adopted on authority_matrixversion;
drop trigger meaning on authority_office;
drop trigger meaning on authority_matter;
drop trigger append_only on authority_level;
drop trigger append_only on authority_decision;
drop function authority_keep_approval();
drop function authority_check_decision();
drop function authority_keep_holder();
drop function authority_keep_rules();
drop function authority_keep_version();
drop function authority_keep_meaning();
drop function authority_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("authority", "0001_initial")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
