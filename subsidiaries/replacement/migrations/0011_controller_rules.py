"""What the controller remembers: expectations, back-offs, breaches, service levels; who told of a replacement."""

import django.db.models.deletion
from django.db import migrations, models

from holding.scope import protect

TABLES = {
    "replacement_seatbackoff": "unit_id",
    "replacement_incidentstep": "exists (select from replacement_incident i where i.id = incident_id)",
    "replacement_floorbreach": "unit_id",
    "replacement_doubleholder": "unit_id",
    "replacement_servicelevel": "unit_id",
}


class Migration(migrations.Migration):
    dependencies = [
        ("holding", "0012_closed_seats"),
        ("replacement", "0010_staffing_plans"),
    ]

    operations = [
        migrations.CreateModel(
            name="DoubleHolder",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("generation", models.PositiveIntegerField(verbose_name="generation in office")),
                ("other", models.PositiveIntegerField(verbose_name="generation that is live beside it")),
                ("host", models.CharField(max_length=100, verbose_name="host")),
                ("epoch", models.BigIntegerField(verbose_name="epoch")),
                ("first_at", models.DateTimeField(verbose_name="first seen")),
                ("last_at", models.DateTimeField(verbose_name="last seen")),
                ("reports", models.PositiveIntegerField(default=1, verbose_name="reports that say so")),
            ],
            options={
                "verbose_name": "seat with two live agents",
                "verbose_name_plural": "seats with two live agents",
            },
        ),
        migrations.CreateModel(
            name="FloorBreach",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("began_at", models.DateTimeField(verbose_name="began at")),
                ("ended_at", models.DateTimeField(null=True, verbose_name="ended at")),
            ],
            options={
                "verbose_name": "breach of the floor",
                "verbose_name_plural": "breaches of the floor",
            },
        ),
        migrations.CreateModel(
            name="IncidentStep",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("grew", "grew"),
                            ("acknowledged", "acknowledged"),
                            ("note", "note"),
                            ("released", "brake released"),
                        ],
                        max_length=12,
                        verbose_name="kind",
                    ),
                ),
                ("who", models.CharField(max_length=200, verbose_name="who")),
                ("note", models.CharField(blank=True, max_length=500, verbose_name="note")),
                ("at", models.DateTimeField(verbose_name="at")),
            ],
            options={
                "verbose_name": "step of an incident",
                "verbose_name_plural": "steps of incidents",
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="SeatBackoff",
            fields=[
                (
                    "seat",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="backoff",
                        serialize=False,
                        to="holding.seat",
                        verbose_name="seat",
                    ),
                ),
                ("strikes", models.PositiveIntegerField(verbose_name="replacements in a row")),
                ("decided_at", models.DateTimeField(verbose_name="last replaced")),
                ("not_before", models.DateTimeField(verbose_name="not replaced again before")),
            ],
            options={
                "verbose_name": "back-off of a seat",
                "verbose_name_plural": "back-offs of seats",
            },
        ),
        migrations.CreateModel(
            name="ServiceLevel",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "span",
                    models.CharField(
                        choices=[("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days")],
                        max_length=3,
                        verbose_name="span",
                    ),
                ),
                ("as_of", models.DateTimeField(verbose_name="as of")),
                ("replaced", models.PositiveIntegerField(verbose_name="replacements")),
                ("waiting", models.PositiveIntegerField(verbose_name="not live yet")),
                ("short_lived", models.PositiveIntegerField(verbose_name="that did not last")),
                ("detect_p50", models.FloatField(null=True, verbose_name="detection, median (s)")),
                ("detect_p95", models.FloatField(null=True, verbose_name="detection, 95 % (s)")),
                ("detect_max", models.FloatField(null=True, verbose_name="detection, longest (s)")),
                ("restore_p50", models.FloatField(null=True, verbose_name="restored, median (s)")),
                ("restore_p95", models.FloatField(null=True, verbose_name="restored, 95 % (s)")),
                ("restore_max", models.FloatField(null=True, verbose_name="restored, longest (s)")),
                ("seconds_below", models.FloatField(verbose_name="seconds below the floor")),
                ("duplicates", models.PositiveIntegerField(verbose_name="seats with two live agents")),
                ("brakes", models.PositiveIntegerField(verbose_name="brakes applied")),
                (
                    "cost",
                    models.DecimalField(decimal_places=4, max_digits=16, verbose_name="cost of the replacements"),
                ),
            ],
            options={
                "verbose_name": "service level",
                "verbose_name_plural": "service levels",
            },
        ),
        migrations.CreateModel(
            name="VersionStanding",
            fields=[
                (
                    "version",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="standing",
                        serialize=False,
                        to="holding.blueprintversion",
                        verbose_name="blueprint version",
                    ),
                ),
                ("proven_at", models.DateTimeField(null=True, verbose_name="proven at")),
                ("strikes", models.PositiveIntegerField(default=0, verbose_name="times in trouble in a row")),
                ("troubled_at", models.DateTimeField(null=True, verbose_name="last in trouble")),
                ("not_before", models.DateTimeField(null=True, verbose_name="no new agents before")),
            ],
            options={
                "verbose_name": "standing of a blueprint version",
                "verbose_name_plural": "standings of blueprint versions",
            },
        ),
        migrations.AddField(
            model_name="divisionstate",
            name="taken_up_at",
            field=models.DateTimeField(null=True, verbose_name="newest manifest taken up"),
        ),
        migrations.AddField(
            model_name="incident",
            name="acknowledged_at",
            field=models.DateTimeField(null=True, verbose_name="acknowledged at"),
        ),
        migrations.AddField(
            model_name="incident",
            name="acknowledged_by",
            field=models.CharField(blank=True, max_length=200, verbose_name="acknowledged by"),
        ),
        migrations.AddField(
            model_name="incident",
            name="released_at",
            field=models.DateTimeField(null=True, verbose_name="brake released at"),
        ),
        migrations.AddField(
            model_name="incident",
            name="released_by",
            field=models.CharField(blank=True, max_length=200, verbose_name="brake released by"),
        ),
        migrations.AddField(
            model_name="replacement",
            name="actor",
            field=models.CharField(blank=True, max_length=200, verbose_name="decided by"),
        ),
        migrations.AddField(
            model_name="replacement",
            name="epoch",
            field=models.BigIntegerField(null=True, verbose_name="under epoch"),
        ),
        migrations.AddField(
            model_name="replacement",
            name="failed_at",
            field=models.DateTimeField(null=True, verbose_name="did not last: replaced again at"),
        ),
        migrations.AddField(
            model_name="replacement",
            name="host",
            field=models.CharField(blank=True, max_length=100, verbose_name="reported by host"),
        ),
        migrations.AddField(
            model_name="replacement",
            name="live_epoch",
            field=models.BigIntegerField(null=True, verbose_name="live under epoch"),
        ),
        migrations.AddField(
            model_name="replacement",
            name="live_host",
            field=models.CharField(blank=True, db_default="", max_length=100, verbose_name="live on host"),
        ),
        migrations.AddField(
            model_name="replacement",
            name="told_at",
            field=models.DateTimeField(null=True, verbose_name="taken up by the host at"),
        ),
        migrations.AddField(
            model_name="staffingrule",
            name="backoff_base_s",
            field=models.PositiveIntegerField(
                db_default=10,
                default=10,
                help_text="Doubled with each replacement in a row, up to the ceiling.",
                verbose_name="seconds before a seat is replaced again",
            ),
        ),
        migrations.AddField(
            model_name="staffingrule",
            name="backoff_ceiling_s",
            field=models.PositiveIntegerField(db_default=300, default=300, verbose_name="the ceiling (s)"),
        ),
        migrations.AddField(
            model_name="staffingrule",
            name="expectation_s",
            field=models.PositiveIntegerField(
                db_default=60, default=60, verbose_name="seconds within which a new agent is expected live"
            ),
        ),
        migrations.AddField(
            model_name="staffingrule",
            name="quality_share",
            field=models.FloatField(
                db_default=0.05,
                default=0.05,
                help_text="As a share of the unit's floor.",
                verbose_name="replaced for quality per unit and day, at most",
            ),
        ),
        migrations.AddField(
            model_name="staffingrule",
            name="stable_s",
            field=models.PositiveIntegerField(
                db_default=600, default=600, verbose_name="seconds of service after which an agent has lasted"
            ),
        ),
        migrations.AddField(
            model_name="staffingrule",
            name="unit_cost",
            field=models.DecimalField(
                db_default=0,
                decimal_places=4,
                default=0,
                help_text="As the house accounts for it; 0 while nobody has set it.",
                max_digits=12,
                verbose_name="cost of one replacement (EUR)",
            ),
        ),
        migrations.AlterField(
            model_name="incident",
            name="kind",
            field=models.CharField(
                choices=[
                    ("below-floor", "below the floor"),
                    ("silence", "agents fell silent: replacement slowed down"),
                    ("mass-silence", "most agents fell silent: replacement stopped"),
                    ("capacity", "no host takes the division"),
                    ("cap", "daily cap of replacements reached"),
                    ("external", "external agents are silent"),
                    ("stalled", "a host does not take up its new agents"),
                    ("crash-loop", "new agents of a blueprint version do not last"),
                    ("duplicate", "two live agents of one seat"),
                ],
                max_length=14,
                verbose_name="kind",
            ),
        ),
        migrations.AlterField(
            model_name="replacement",
            name="reason",
            field=models.CharField(
                choices=[
                    ("failed", "reported failed"),
                    ("missing", "missing from its host"),
                    ("not-live", "did not become live"),
                    ("quality", "below its service level in spite of retraining"),
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
        migrations.AddIndex(
            model_name="replacement",
            index=models.Index(fields=["unit", "decided_at"], name="replacement_unit_decided"),
        ),
        migrations.AddIndex(
            model_name="replacement",
            index=models.Index(
                condition=models.Q(("failed_at__isnull", False)), fields=["failed_at"], name="replacement_failed"
            ),
        ),
        migrations.AddConstraint(
            model_name="staffingrule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("backoff_base_s__lte", models.F("backoff_ceiling_s")),
                    ("quality_share__gte", 0),
                    ("quality_share__lte", 1),
                ),
                name="staffing_rule_backoff",
            ),
        ),
        migrations.AddField(
            model_name="doubleholder",
            name="seat",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="holding.seat",
                verbose_name="seat",
            ),
        ),
        migrations.AddField(
            model_name="doubleholder",
            name="unit",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, to="holding.unit", verbose_name="unit"
            ),
        ),
        migrations.AddField(
            model_name="floorbreach",
            name="unit",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, to="holding.unit", verbose_name="unit"
            ),
        ),
        migrations.AddField(
            model_name="incidentstep",
            name="incident",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="steps",
                to="replacement.incident",
                verbose_name="incident",
            ),
        ),
        migrations.AddField(
            model_name="seatbackoff",
            name="unit",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, to="holding.unit", verbose_name="unit"
            ),
        ),
        migrations.AddField(
            model_name="servicelevel",
            name="unit",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.CASCADE, to="holding.unit", verbose_name="unit"
            ),
        ),
        migrations.AddIndex(
            model_name="doubleholder",
            index=models.Index(fields=["unit", "-last_at"], name="double_holder_unit"),
        ),
        migrations.AddConstraint(
            model_name="doubleholder",
            constraint=models.UniqueConstraint(fields=("seat", "generation", "other"), name="double_holder_once"),
        ),
        migrations.AddIndex(
            model_name="floorbreach",
            index=models.Index(fields=["unit", "-began_at"], name="breach_unit"),
        ),
        migrations.AddConstraint(
            model_name="floorbreach",
            constraint=models.UniqueConstraint(
                condition=models.Q(("ended_at", None)), fields=("unit",), name="breach_one_open"
            ),
        ),
        migrations.AddConstraint(
            model_name="floorbreach",
            constraint=models.CheckConstraint(
                condition=models.Q(("ended_at", None), ("ended_at__gte", models.F("began_at")), _connector="OR"),
                name="breach_ends_after",
            ),
        ),
        migrations.AddIndex(
            model_name="seatbackoff",
            index=models.Index(fields=["unit", "not_before"], name="seat_backoff_unit"),
        ),
        migrations.AddConstraint(
            model_name="seatbackoff",
            constraint=models.CheckConstraint(condition=models.Q(("strikes__gte", 1)), name="seat_backoff_of_some"),
        ),
        migrations.AddConstraint(
            model_name="servicelevel",
            constraint=models.UniqueConstraint(
                fields=("unit", "span"), name="service_level_once", nulls_distinct=False
            ),
        ),
        *[migrations.RunSQL(*protect(table, unit)) for table, unit in TABLES.items()],
    ]
