"""Stages of agents and seats, the record of their changes, and what refuses all others."""

import django.db.models.deletion
from django.db import migrations, models

from holding import lifecycle
from holding.scope import protect

# What runs when the column comes has been running: it is not asked to prove itself anew.
FILL = """
select set_config('app.units', '*', true);
update holding_agent a set stage = case
    when a.retired_at is null then 'active'
    when exists (select from holding_agent b where b.seat_id = a.seat_id and b.generation > a.generation) then 'replaced'
    else 'retired' end;
update holding_seat s set stage = 'vacant'
 where not exists (select from holding_incumbency i where i.seat_id = s.id and i.ended_at is null);
"""
# Room for one new version of a third of a page's rows: those of one seat's next stage stay on their page.
ROOM = "alter table holding_agent set (fillfactor = 70)"
STAFFING = """
create function holding_keep_staffing() returns trigger language plpgsql as $$
declare
    units text := coalesce(current_setting('app.units', true), '');
    place bigint;
    said text;
    held boolean;
begin
    if tg_table_name = 'holding_seat' then place := new.id; else place := new.seat_id; end if;
    perform set_config('app.units', '*', true); -- a commit may come when the unit is out of view
    select s.stage, exists (select from holding_incumbency i where i.seat_id = s.id and i.ended_at is null)
      into said, held from holding_seat s where s.id = place;
    perform set_config('app.units', units, true);
    if (said = 'staffed') <> held then
        raise exception 'Seat % is %, but it has % holder.', place, said, case when held then 'a' else 'no' end
            using errcode = 'integrity_constraint_violation';
    end if;
    return null;
end $$;
create constraint trigger staffing after update of stage on holding_seat
    deferrable initially deferred for each row when (old.stage <> new.stage)
    execute function holding_keep_staffing();
create constraint trigger staffing after update of ended_at on holding_incumbency
    deferrable initially deferred for each row when (old.ended_at is distinct from new.ended_at)
    execute function holding_keep_staffing();
"""
STAFFING_GONE = """
drop trigger staffing on holding_seat;
drop trigger staffing on holding_incumbency;
drop function holding_keep_staffing();
"""
HISTORY = """
alter table holding_stagechange add constraint stage_change_of_unit foreign key (seat_id, unit_id)
    references holding_seat (id, unit_id) deferrable initially deferred;
create function holding_keep_history() returns trigger language plpgsql as $$
begin
    raise exception '% of % is refused: what has happened is not altered.', tg_op, tg_table_name
        using errcode = 'integrity_constraint_violation';
end $$;
create trigger immutable before update or delete on holding_stagechange
    for each row execute function holding_keep_history();
"""
HISTORY_GONE = "drop trigger immutable on holding_stagechange; drop function holding_keep_history();"

AGENT_STAGES = [
    ("requested", "requested"),
    ("provisioning", "provisioning"),
    ("probation", "on probation"),
    ("active", "active"),
    ("suspended", "suspended"),
    ("draining", "draining"),
    ("retired", "retired"),
    ("quarantined", "quarantined"),
    ("lost", "lost"),
    ("replaced", "replaced"),
]
SEAT_STAGES = [("staffed", "staffed"), ("vacant", "vacant"), ("closed", "out of use")]
IN_OFFICE = ["active", "draining", "lost", "probation", "provisioning", "quarantined", "requested", "suspended"]


def _key(to: str, name: str, *, null: bool = False, constraint: bool = True) -> models.ForeignKey:
    return models.ForeignKey(
        db_constraint=constraint,
        db_index=False,
        null=null,
        on_delete=django.db.models.deletion.PROTECT,
        to=to,
        verbose_name=name,
        **({} if name == "unit" else {"related_name": "stage_changes"}),
    )


class Migration(migrations.Migration):
    dependencies = [("holding", "0009_external_seats")]

    operations = [
        migrations.AddField(
            model_name="agent",
            name="stage",
            field=models.CharField(
                choices=AGENT_STAGES,
                db_default="provisioning",
                default="provisioning",
                max_length=12,
                verbose_name="stage",
            ),
        ),
        migrations.AddField(
            model_name="seat",
            name="stage",
            field=models.CharField(
                choices=SEAT_STAGES, db_default="staffed", default="staffed", max_length=8, verbose_name="stage"
            ),
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.RunSQL(ROOM, "alter table holding_agent reset (fillfactor)"),
        migrations.AddConstraint(
            model_name="agent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("retired_at", None), ("stage__in", IN_OFFICE)),
                    models.Q(("retired_at__isnull", False), ("stage__in", ["replaced", "retired"])),
                    _connector="OR",
                ),
                name="agent_stage_of_office",
            ),
        ),
        migrations.CreateModel(
            name="StageChange",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("unit", _key("holding.unit", "unit", constraint=False)),
                ("seat", _key("holding.seat", "seat", constraint=False)),
                ("agent", _key("holding.agent", "agent", null=True)),
                ("old", models.CharField(max_length=12, verbose_name="from stage")),
                ("new", models.CharField(max_length=12, verbose_name="to stage")),
                ("at", models.DateTimeField(verbose_name="at")),
                ("actor", models.CharField(max_length=200, verbose_name="actor")),
                ("reason", models.CharField(max_length=200, verbose_name="reason")),
                ("correlation_id", models.CharField(blank=True, max_length=100, verbose_name="correlation")),
            ],
            options={
                "verbose_name": "change of stage",
                "verbose_name_plural": "changes of stage",
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["seat", "id"], name="stage_change_of_seat")],
            },
        ),
        migrations.RunSQL(HISTORY, HISTORY_GONE),
        migrations.RunSQL(*protect("holding_stagechange", "unit_id")),
        migrations.RunSQL(lifecycle.REFUSE, lifecycle.REFUSE_GONE),
        migrations.RunSQL(*lifecycle.guard("holding_agent", lifecycle.FIRST, lifecycle.NEXT)),
        migrations.RunSQL(*lifecycle.guard("holding_seat", lifecycle.SEAT_FIRST, lifecycle.SEAT_NEXT)),
        migrations.RunSQL(STAFFING, STAFFING_GONE),
    ]
