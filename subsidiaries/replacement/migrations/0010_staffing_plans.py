"""Staffing plans, delegated caps and planned retirements; what the database holds about floors."""

import django.db.models.deletion
from django.db import migrations, models

from holding.scope import protect

# The plan of a subsidiary and its floor change in one transaction: looked at when it ends. What is out of the view of
# whoever writes counts all the same.
FLOORS = """
create function replacement_floors_add_up() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    place bigint := (to_jsonb(coalesce(new, old)) ->> tg_argv[0])::bigint;
    units text := coalesce(current_setting('app.units', true), '');
    planned bigint;
    wanted bigint;
    low text;
begin
    perform set_config('app.units', '*', true);
    select sum(floor) into planned from replacement_staffingplan where unit_id = place;
    select floor into wanted from holding_unit where id = place;
    select r.slug into low from replacement_staffingplan p join holding_role r on r.id = p.role_id
     where p.unit_id = place and p.floor < r.count limit 1;
    perform set_config('app.units', units, true);
    if low is not null then
        raise exception 'The floor of % cannot be below the quota of the holding.', low
            using errcode = 'check_violation';
    end if;
    if planned is not null and planned <> wanted then
        raise exception 'The floors of the roles add up to %, the floor of the unit is %.', planned, wanted
            using errcode = 'check_violation';
    end if;
    return null;
end $$;
create constraint trigger floors_add_up after insert or update or delete on replacement_staffingplan
    deferrable initially deferred for each row execute function replacement_floors_add_up('unit_id');
create constraint trigger floors_add_up after update of floor on holding_unit
    deferrable initially deferred for each row execute function replacement_floors_add_up('id');
"""
NO_FLOORS = """
drop trigger floors_add_up on holding_unit;
drop trigger floors_add_up on replacement_staffingplan;
drop function replacement_floors_add_up();
"""
# The plain holding, where it was loaded before there were plans (as `observing.ensure_states` does after a load).
FIRST = """
select set_config('app.units', '*', true);
insert into replacement_staffingplan (unit_id, role_id, floor, reserve, maximum, changed_at, changed_by, reason)
select u.id, r.id, r.count, 0, case when r.tier = 'L1' then ceil(r.count * 1.1) else r.count end, now(),
       'portal/arp', ''
  from holding_unit u cross join holding_role r
 where u.kind = 'subsidiary' and r.count > 0 on conflict do nothing;
"""
NOTHING = "select 1"
OF_RETIREMENT = "exists (select from replacement_retirement r where r.id = retirement_id)"
KEY = models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


def unit(**options: object) -> models.ForeignKey:
    """Return the key of a unit."""
    return models.ForeignKey(
        on_delete=django.db.models.deletion.PROTECT, to="holding.unit", verbose_name="unit", **options
    )


def role() -> models.ForeignKey:
    """Return the key of a role."""
    return models.ForeignKey(
        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="holding.role", verbose_name="role"
    )


class Migration(migrations.Migration):
    dependencies = [
        ("authority", "0007_ends_once"),
        ("holding", "0012_closed_seats"),
        ("replacement", "0009_rollouts"),
    ]

    operations = [
        migrations.AlterField(
            model_name="replacement",
            name="reason",
            field=models.CharField(
                choices=[
                    ("failed", "reported failed"),
                    ("missing", "missing from its host"),
                    ("manual", "ordered by a person"),
                    ("quarantine", "isolated by a person"),
                    ("promotion", "promoted to a higher seat"),
                    ("rollout", "another blueprint version is rolled out"),
                    ("revoked", "its blueprint version was revoked"),
                    ("planned", "planned retirement"),
                ],
                max_length=10,
                verbose_name="reason",
            ),
        ),
        migrations.CreateModel(
            name="StaffingPlan",
            fields=[
                ("id", KEY.clone()),
                (
                    "floor",
                    models.PositiveIntegerField(help_text="Live agents that there must be.", verbose_name="floor"),
                ),
                (
                    "reserve",
                    models.PositiveIntegerField(
                        default=0, help_text="Seats beyond the floor.", verbose_name="reserve"
                    ),
                ),
                (
                    "maximum",
                    models.PositiveIntegerField(
                        help_text="Seats that there may be, with those opened for planned retirements.",
                        verbose_name="maximum",
                    ),
                ),
                ("changed_at", models.DateTimeField(verbose_name="changed at")),
                ("changed_by", models.CharField(max_length=200, verbose_name="changed by")),
                ("reason", models.CharField(blank=True, max_length=500, verbose_name="reason")),
                ("role", role()),
                ("unit", unit(related_name="plans", db_index=False)),
            ],
            options={
                "verbose_name": "staffing plan",
                "verbose_name_plural": "staffing plans",
                "ordering": ["unit__position", "role__position"],
                "constraints": [
                    models.UniqueConstraint(fields=("unit", "role"), name="staffing_plan_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("floor__lte", models.F("floor") + models.F("reserve")),
                            ("maximum__gte", models.F("floor") + models.F("reserve")),
                        ),
                        name="staffing_plan_order",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="CapDelegation",
            fields=[
                ("id", KEY.clone()),
                ("cap", models.PositiveIntegerField(verbose_name="replacements per day, at most")),
                ("starts_on", models.DateField(verbose_name="from")),
                ("ends_on", models.DateField(blank=True, null=True, verbose_name="until")),
                ("reason", models.CharField(max_length=500, verbose_name="reason")),
                ("revoked_at", models.DateTimeField(blank=True, null=True, verbose_name="revoked at")),
                ("revoked_by", models.CharField(blank=True, max_length=200, verbose_name="revoked by")),
                (
                    "approval",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="authority.approval",
                        verbose_name="approval",
                    ),
                ),
                ("unit", unit(related_name="+")),
            ],
            options={
                "verbose_name": "delegated cap",
                "verbose_name_plural": "delegated caps",
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["unit", "-id"], name="cap_delegation_of_unit")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("ends_on", None), ("ends_on__gte", models.F("starts_on")), _connector="OR"
                        ),
                        name="cap_delegation_ends_after",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Retirement",
            fields=[
                ("id", KEY.clone()),
                (
                    "choice",
                    models.CharField(
                        choices=[
                            ("oldest", "the oldest agents"),
                            ("version", "agents of older blueprint versions"),
                            ("named", "agents by name"),
                        ],
                        max_length=8,
                        verbose_name="which agents",
                    ),
                ),
                ("detail", models.CharField(blank=True, max_length=200, verbose_name="detail")),
                ("surge", models.PositiveIntegerField(default=0, verbose_name="seats opened for it")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("running", "running"),
                            ("paused", "paused"),
                            ("done", "done"),
                            ("aborted", "aborted"),
                        ],
                        default="running",
                        max_length=8,
                        verbose_name="state",
                    ),
                ),
                ("words", models.CharField(blank=True, max_length=200, verbose_name="what it waits for")),
                ("reason", models.CharField(max_length=500, verbose_name="reason")),
                ("actor", models.CharField(max_length=200, verbose_name="ordered by")),
                ("key", models.CharField(max_length=100, unique=True, verbose_name="key")),
                ("created_at", models.DateTimeField(verbose_name="ordered at")),
                ("changed_at", models.DateTimeField(verbose_name="changed at")),
                ("role", role()),
                ("unit", unit(related_name="+")),
            ],
            options={
                "verbose_name": "planned retirement",
                "verbose_name_plural": "planned retirements",
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["unit", "-id"], name="retirement_of_unit")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state__in", ["running", "paused"])),
                        fields=("unit", "role"),
                        name="retirement_one_going",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Retiree",
            fields=[
                ("id", KEY.clone()),
                ("generation", models.PositiveIntegerField(verbose_name="generation")),
                ("place", models.PositiveIntegerField(verbose_name="place")),
                ("begun_at", models.DateTimeField(blank=True, null=True, verbose_name="begun at")),
                ("done_at", models.DateTimeField(blank=True, null=True, verbose_name="done at")),
                ("moved_on", models.BooleanField(default=False, verbose_name="replaced meanwhile")),
                (
                    "retirement",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="retirees",
                        to="replacement.retirement",
                        verbose_name="planned retirement",
                    ),
                ),
                (
                    "seat",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="holding.seat",
                        verbose_name="seat",
                    ),
                ),
            ],
            options={
                "verbose_name": "retiree",
                "verbose_name_plural": "retirees",
                "ordering": ["retirement", "place"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("done_at", None)), fields=["retirement", "place"], name="retiree_open"
                    )
                ],
                "constraints": [models.UniqueConstraint(fields=("retirement", "seat"), name="retiree_once")],
            },
        ),
        migrations.RunSQL(FLOORS, NO_FLOORS),
        *(
            migrations.RunSQL(*protect(table, condition))
            for table, condition in {
                "replacement_staffingplan": "unit_id",
                "replacement_capdelegation": "unit_id",
                "replacement_retirement": "unit_id",
                "replacement_retiree": OF_RETIREMENT,
            }.items()
        ),
        migrations.RunSQL(FIRST, NOTHING),  # last: a table with checks that wait cannot be altered
    ]
