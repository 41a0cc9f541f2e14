"""Commands and their targets, under row-level security by unit."""

import django.db.models.deletion
from django.db import migrations, models

from holding.scope import protect


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("holding", "0005_standing_orders"),
    ]

    operations = [
        migrations.CreateModel(
            name="Command",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "verb",
                    models.CharField(
                        choices=[
                            ("pause", "pause"),
                            ("resume", "resume"),
                            ("drain", "hand over to another host"),
                            ("retire", "retire"),
                            ("config", "settings of hosts"),
                            ("report", "full report"),
                        ],
                        max_length=8,
                        verbose_name="command",
                    ),
                ),
                (
                    "scope",
                    models.CharField(
                        choices=[
                            ("all", "the whole holding"),
                            ("unit", "a unit"),
                            ("division", "a division"),
                            ("agent", "one agent"),
                            ("host", "what a host runs"),
                        ],
                        max_length=8,
                        verbose_name="about",
                    ),
                ),
                ("host", models.CharField(blank=True, max_length=100, verbose_name="host")),
                ("settings", models.JSONField(blank=True, default=dict, verbose_name="settings")),
                ("reason", models.CharField(max_length=500, verbose_name="reason")),
                ("actor", models.CharField(max_length=200, verbose_name="ordered by")),
                ("key", models.CharField(max_length=120, unique=True, verbose_name="key")),
                ("agents", models.PositiveIntegerField(verbose_name="agents")),
                ("created_at", models.DateTimeField(verbose_name="ordered at")),
                ("patience_s", models.PositiveIntegerField(verbose_name="seconds to obey, for each step")),
                ("percent", models.PositiveSmallIntegerField(default=100, verbose_name="share of each step (%)")),
                (
                    "halt_above",
                    models.PositiveSmallIntegerField(default=0, verbose_name="halt above this failure rate (%)"),
                ),
                ("reached", models.PositiveSmallIntegerField(default=0, verbose_name="share begun (%)")),
                (
                    "accepted",
                    models.PositiveIntegerField(default=0, verbose_name="failures that a person has accepted"),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("rolling-out", "rolling out"),
                            ("halted", "halted"),
                            ("confirmed", "confirmed everywhere"),
                            ("incomplete", "ended, not everywhere"),
                            ("aborted", "aborted"),
                            ("superseded", "superseded"),
                            ("lifted", "lifted"),
                        ],
                        default="rolling-out",
                        max_length=12,
                        verbose_name="state",
                    ),
                ),
                ("changed_at", models.DateTimeField(verbose_name="in this state since")),
                (
                    "division",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="holding.division",
                        verbose_name="division",
                    ),
                ),
                (
                    "lifted_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="lifted",
                        to="commands.command",
                        verbose_name="lifted by",
                    ),
                ),
                (
                    "role",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="holding.role",
                        verbose_name="role",
                    ),
                ),
                (
                    "seat",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
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
                "verbose_name": "command",
                "verbose_name_plural": "commands",
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="Target",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("place", models.PositiveIntegerField(verbose_name="place in the roll-out")),
                ("agents", models.PositiveIntegerField(verbose_name="agents")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "its step has not come"),
                            ("sent", "sent"),
                            ("acknowledged", "obeyed"),
                            ("refused", "refused"),
                            ("expired", "not obeyed in time"),
                            ("dropped", "not sent"),
                        ],
                        default="waiting",
                        max_length=12,
                        verbose_name="state",
                    ),
                ),
                ("generation", models.PositiveIntegerField(null=True, verbose_name="manifest wanted")),
                ("epoch", models.BigIntegerField(null=True, verbose_name="epoch when it was ordered")),
                ("message", models.CharField(blank=True, max_length=200, verbose_name="message id")),
                ("begun_at", models.DateTimeField(null=True, verbose_name="begun at")),
                ("due_at", models.DateTimeField(null=True, verbose_name="to be obeyed until")),
                ("sent_at", models.DateTimeField(null=True, verbose_name="sent at")),
                ("acknowledged_at", models.DateTimeField(null=True, verbose_name="obeyed at")),
                ("words", models.CharField(blank=True, max_length=500, verbose_name="words of the host")),
                (
                    "command",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="targets",
                        to="commands.command",
                        verbose_name="command",
                    ),
                ),
                (
                    "division",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to="holding.division", verbose_name="division"
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
                "verbose_name": "target",
                "verbose_name_plural": "targets",
                "ordering": ["command", "place"],
            },
        ),
        migrations.AddIndex(
            model_name="command",
            index=models.Index(fields=["unit", "-id"], name="command_of_unit"),
        ),
        migrations.AddIndex(
            model_name="command",
            index=models.Index(
                condition=models.Q(("state__in", ("rolling-out", "halted"))), fields=["id"], name="command_going"
            ),
        ),
        migrations.AddConstraint(
            model_name="command",
            constraint=models.CheckConstraint(
                condition=models.Q(("percent__gte", 1), ("percent__lte", 100)), name="command_percent"
            ),
        ),
        migrations.AddConstraint(
            model_name="command",
            constraint=models.CheckConstraint(
                condition=models.Q(("halt_above__lte", 100), ("reached__lte", 100)), name="command_shares"
            ),
        ),
        migrations.AddConstraint(
            model_name="command",
            constraint=models.CheckConstraint(
                condition=models.Q(("reason", ""), _negated=True), name="command_has_reason"
            ),
        ),
        migrations.AddConstraint(
            model_name="command",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("division", None), ("host", ""), ("scope", "all"), ("seat", None)),
                    models.Q(("division", None), ("host", ""), ("scope", "unit"), ("seat", None)),
                    models.Q(("division__isnull", False), ("host", ""), ("scope", "division"), ("seat", None)),
                    models.Q(
                        ("division__isnull", False), ("host", ""), ("scope", "agent"), ("seat__isnull", False)
                    ),
                    models.Q(
                        ("division", None),
                        ("role", None),
                        ("scope", "host"),
                        ("seat", None),
                        models.Q(("host", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="command_scope",
            ),
        ),
        migrations.AddIndex(
            model_name="target",
            index=models.Index(
                condition=models.Q(("acknowledged_at", None), ("state__in", ("sent", "refused", "expired"))),
                fields=["division"],
                name="target_unheard",
            ),
        ),
        migrations.AddConstraint(
            model_name="target",
            constraint=models.UniqueConstraint(fields=("command", "division"), name="target_once"),
        ),
        migrations.AddConstraint(
            model_name="target",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("state__in", ("waiting", "dropped")),
                    models.Q(("begun_at__isnull", False), ("due_at__isnull", False)),
                    _connector="OR",
                ),
                name="target_begun_has_an_end",
            ),
        ),
        migrations.RunSQL(*protect("commands_command", "unit_id")),
        migrations.RunSQL(*protect("commands_target", "unit_id")),
    ]
