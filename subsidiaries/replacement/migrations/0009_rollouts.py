"""Rollouts of blueprint versions and their temporary seats, under row-level security by unit."""

import django.db.models.deletion
from django.db import migrations, models

from holding.scope import protect


class Migration(migrations.Migration):
    dependencies = [
        ("holding", "0011_blueprint_versions"),
        ("replacement", "0008_stages_and_succession"),
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
                ],
                max_length=10,
                verbose_name="reason",
            ),
        ),
        migrations.CreateModel(
            name="CrashRule",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("window_s", models.PositiveIntegerField(default=300, verbose_name="seconds that are looked at")),
                ("least", models.PositiveIntegerField(default=5, verbose_name="failed seats, at least")),
                (
                    "share",
                    models.FloatField(
                        default=0.2,
                        help_text="And twice the share among the agents of the blueprint's other versions.",
                        verbose_name="share of its agents that failed, at least",
                    ),
                ),
            ],
            options={
                "verbose_name": "crash-loop rule",
                "verbose_name_plural": "crash-loop rules",
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="crash_rule_is_one"),
                    models.CheckConstraint(
                        condition=models.Q(("least__gte", 1), ("share__gt", 0), ("share__lte", 1)),
                        name="crash_rule_share",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Rollout",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("everywhere", models.BooleanField(default=False, verbose_name="everywhere")),
                ("reason", models.CharField(max_length=500, verbose_name="reason")),
                ("actor", models.CharField(max_length=200, verbose_name="ordered by")),
                ("key", models.CharField(max_length=120, unique=True, verbose_name="key")),
                ("created_at", models.DateTimeField(verbose_name="ordered at")),
                ("canary", models.PositiveSmallIntegerField(verbose_name="canary (%)")),
                ("observe_s", models.PositiveIntegerField(verbose_name="seconds for which the canary is observed")),
                ("patience_s", models.PositiveIntegerField(verbose_name="seconds until a new agent must be live")),
                (
                    "halt_above",
                    models.PositiveSmallIntegerField(verbose_name="roll back above this share of failed ones (%)"),
                ),
                ("wave", models.PositiveIntegerField(verbose_name="agents of a unit changed at once, at most")),
                ("surge", models.PositiveIntegerField(verbose_name="temporary seats of a unit, at most")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("canary", "canary begins"),
                            ("observing", "canary is observed"),
                            ("rolling", "rolling out"),
                            ("paused", "paused"),
                            ("returning", "rolling back"),
                            ("done", "done"),
                            ("returned", "rolled back"),
                            ("aborted", "aborted"),
                        ],
                        default="canary",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                (
                    "paused_from",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("canary", "canary begins"),
                            ("observing", "canary is observed"),
                            ("rolling", "rolling out"),
                            ("paused", "paused"),
                            ("returning", "rolling back"),
                            ("done", "done"),
                            ("returned", "rolled back"),
                            ("aborted", "aborted"),
                        ],
                        default="",
                        max_length=10,
                        verbose_name="paused while",
                    ),
                ),
                ("changed_at", models.DateTimeField(verbose_name="in this state since")),
                (
                    "note",
                    models.CharField(
                        blank=True, default="", max_length=500, verbose_name="why it is in this state"
                    ),
                ),
                (
                    "blueprint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        to="holding.blueprint",
                        verbose_name="blueprint",
                    ),
                ),
                (
                    "unit",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to="holding.unit", verbose_name="unit"
                    ),
                ),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="rollouts",
                        to="holding.blueprintversion",
                        verbose_name="version",
                    ),
                ),
            ],
            options={
                "verbose_name": "rollout",
                "verbose_name_plural": "rollouts",
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="RolloutSeat",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("canary", models.BooleanField(default=False, verbose_name="canary")),
                ("generation", models.PositiveIntegerField(verbose_name="generation")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("begun", "new agent appointed"),
                            ("live", "new agent live"),
                            ("back", "former version appointed"),
                            ("restored", "former version live"),
                        ],
                        default="begun",
                        max_length=8,
                        verbose_name="state",
                    ),
                ),
                ("begun_at", models.DateTimeField(verbose_name="begun at")),
                ("live_at", models.DateTimeField(null=True, verbose_name="live at")),
                ("failed_at", models.DateTimeField(null=True, verbose_name="failed at")),
                ("failure", models.CharField(blank=True, default="", max_length=200, verbose_name="how it failed")),
                (
                    "former",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="holding.blueprintversion",
                        verbose_name="former version",
                    ),
                ),
                (
                    "rollout",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="seats",
                        to="replacement.rollout",
                        verbose_name="rollout",
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
                (
                    "unit",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to="holding.unit", verbose_name="unit"
                    ),
                ),
            ],
            options={
                "verbose_name": "seat of a rollout",
                "verbose_name_plural": "seats of rollouts",
                "ordering": ["rollout", "id"],
            },
        ),
        migrations.CreateModel(
            name="RolloutUnit",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("agents", models.PositiveIntegerField(verbose_name="agents to change when it began")),
                ("canaries", models.PositiveIntegerField(verbose_name="of them canaries")),
                ("ended_at", models.DateTimeField(null=True, verbose_name="ended at")),
                (
                    "blueprint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        to="holding.blueprint",
                        verbose_name="blueprint",
                    ),
                ),
                (
                    "rollout",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="units",
                        to="replacement.rollout",
                        verbose_name="rollout",
                    ),
                ),
                (
                    "unit",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to="holding.unit", verbose_name="unit"
                    ),
                ),
            ],
            options={
                "verbose_name": "rollout in a unit",
                "verbose_name_plural": "rollouts in units",
                "ordering": ["rollout", "unit"],
            },
        ),
        migrations.CreateModel(
            name="SurgeSeat",
            fields=[
                (
                    "seat",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="surge",
                        serialize=False,
                        to="holding.seat",
                        verbose_name="seat",
                    ),
                ),
                ("opened_at", models.DateTimeField(verbose_name="opened at")),
                ("closed_at", models.DateTimeField(null=True, verbose_name="closed at")),
                (
                    "rollout",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="surge_seats",
                        to="replacement.rollout",
                        verbose_name="rollout",
                    ),
                ),
                (
                    "unit",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to="holding.unit", verbose_name="unit"
                    ),
                ),
            ],
            options={
                "verbose_name": "temporary seat",
                "verbose_name_plural": "temporary seats",
            },
        ),
        migrations.AddIndex(
            model_name="rollout",
            index=models.Index(fields=["unit", "-id"], name="rollout_of_unit"),
        ),
        migrations.AddConstraint(
            model_name="rollout",
            constraint=models.CheckConstraint(
                condition=models.Q(("canary__gte", 1), ("canary__lte", 100)), name="rollout_canary"
            ),
        ),
        migrations.AddConstraint(
            model_name="rollout",
            constraint=models.CheckConstraint(condition=models.Q(("halt_above__lte", 100)), name="rollout_halt"),
        ),
        migrations.AddConstraint(
            model_name="rollout",
            constraint=models.CheckConstraint(
                condition=models.Q(("surge__gte", 1), ("wave__gte", 1)), name="rollout_steps"
            ),
        ),
        migrations.AddConstraint(
            model_name="rollout",
            constraint=models.CheckConstraint(
                condition=models.Q(("reason", ""), _negated=True), name="rollout_has_reason"
            ),
        ),
        migrations.AddConstraint(
            model_name="rollout",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "paused"), models.Q(("paused_from", ""), _negated=True)),
                    models.Q(models.Q(("state", "paused"), _negated=True), ("paused_from", "")),
                    _connector="OR",
                ),
                name="rollout_paused_from",
            ),
        ),
        migrations.AddIndex(
            model_name="rolloutseat",
            index=models.Index(fields=["rollout", "unit", "state"], name="rollout_seat_state"),
        ),
        migrations.AddIndex(
            model_name="rolloutseat",
            index=models.Index(
                condition=models.Q(("state__in", ("begun", "back"))), fields=["seat"], name="rollout_seat_open"
            ),
        ),
        migrations.AddConstraint(
            model_name="rolloutseat",
            constraint=models.UniqueConstraint(fields=("rollout", "seat"), name="rollout_seat_once"),
        ),
        migrations.AddConstraint(
            model_name="rolloutunit",
            constraint=models.UniqueConstraint(fields=("rollout", "unit"), name="rollout_unit_once"),
        ),
        migrations.AddConstraint(
            model_name="rolloutunit",
            constraint=models.UniqueConstraint(
                condition=models.Q(("ended_at", None)), fields=("unit", "blueprint"), name="rollout_one_per_unit"
            ),
        ),
        migrations.AddConstraint(
            model_name="rolloutunit",
            constraint=models.CheckConstraint(
                condition=models.Q(("canaries__lte", models.F("agents"))), name="rollout_unit_canaries"
            ),
        ),
        migrations.AddIndex(
            model_name="surgeseat",
            index=models.Index(condition=models.Q(("closed_at", None)), fields=["unit"], name="surge_seat_open"),
        ),
        migrations.AddConstraint(
            model_name="surgeseat",
            constraint=models.CheckConstraint(
                condition=models.Q(("closed_at", None), ("closed_at__gte", models.F("opened_at")), _connector="OR"),
                name="surge_seat_closes_after",
            ),
        ),
        *(
            migrations.RunSQL(*protect(f"replacement_{table}", "unit_id"))
            for table in ("rollout", "rolloutunit", "rolloutseat", "surgeseat")
        ),
    ]
