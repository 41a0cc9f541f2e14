"""Four eyes: a service account or an agent is the same pair of eyes as the person who answers for it."""

from django.db import migrations

FORWARD = """
create or replace function authority_check_decision() returns trigger language plpgsql as $$
declare asked record;
begin
    select a.requester_id, a.state into asked from authority_approval a where a.id = new.approval_id for share;
    if exists (
        select from access_user asker
        join access_user decider on coalesce(decider.owner_id, decider.id) = coalesce(asker.owner_id, asker.id)
        where asker.id = asked.requester_id and decider.id in (new.person_id, new.acting_for_id)
    ) then
        raise exception 'Approval %: the requester does not decide, nor does anybody in their stead.', new.approval_id
            using errcode = 'integrity_constraint_violation';
    end if;
    if asked.state <> 'pending' then
        raise exception 'Approval % is % and takes no decision.', new.approval_id, asked.state
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;
"""
BACKWARD = """
create or replace function authority_check_decision() returns trigger language plpgsql as $$
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
"""


class Migration(migrations.Migration):
    dependencies = [("authority", "0005_exchange_rate"), ("access", "0002_people_and_roles")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
