"""Seats of a reserve that are closed: nobody holds one, and it takes up no next agent before it is opened again."""

from django.db import migrations, models

FORWARD = """
create index seat_closed on holding_seat (unit_id, ordinal) where closed_at is not null;
create function holding_closed_seat_is_empty() returns trigger language plpgsql as $$
begin
    if new.generation <> old.generation then
        raise exception 'Seat % is closed: open it before somebody is appointed.', old.code
            using errcode = 'integrity_constraint_violation';
    end if;
    if exists (select from holding_agent a where a.seat_id = new.id and a.retired_at is null) then
        raise exception 'Seat % is held by an agent: it cannot be closed.', old.code
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;
create trigger closed_seat_is_empty before update of generation, closed_at on holding_seat
    for each row when (new.closed_at is not null) execute function holding_closed_seat_is_empty();
"""
BACKWARD = """
drop trigger closed_seat_is_empty on holding_seat;
drop function holding_closed_seat_is_empty();
drop index seat_closed;
"""


class Migration(migrations.Migration):
    dependencies = [("holding", "0011_blueprint_versions")]

    operations = [
        migrations.AddField(
            model_name="seat",
            name="closed_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="closed at"),
        ),
        migrations.RunSQL(
            FORWARD,
            BACKWARD,
            state_operations=[
                migrations.AddIndex(
                    model_name="seat",
                    index=models.Index(
                        condition=models.Q(("closed_at__isnull", False)),
                        fields=["unit", "ordinal"],
                        name="seat_closed",
                    ),
                ),
            ],
        ),
    ]
