"""Orders that stand in place of a state per seat, and what the manifests want of each division."""

import django.db.models.deletion
from django.db import migrations, models

from holding.scope import protect

WANTED = """
update holding_division d set wanted_running = seats.n
from (select division_id, count(*) as n from holding_seat group by 1) seats where seats.division_id = d.id
"""


class Migration(migrations.Migration):
    dependencies = [
        ("holding", "0004_row_security"),
    ]

    operations = [
        migrations.RemoveField(
            model_name="seat",
            name="desired",
        ),
        migrations.AddField(
            model_name="division",
            name="settings",
            field=models.JSONField(
                blank=True, default=dict, verbose_name="settings of its host, where they differ"
            ),
        ),
        migrations.AddField(
            model_name="division",
            name="wanted_paused",
            field=models.PositiveIntegerField(default=0, verbose_name="agents that shall be paused"),
        ),
        migrations.AddField(
            model_name="division",
            name="wanted_running",
            field=models.PositiveIntegerField(default=0, verbose_name="agents that shall run"),
        ),
        migrations.CreateModel(
            name="Suspension",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("share", models.PositiveSmallIntegerField(default=100, verbose_name="share of the seats (%)")),
                (
                    "desired",
                    models.CharField(
                        choices=[("paused", "paused"), ("retired", "retired")],
                        max_length=8,
                        verbose_name="desired state",
                    ),
                ),
                ("order", models.BigIntegerField(verbose_name="command")),
                ("actor", models.CharField(max_length=200, verbose_name="ordered by")),
                ("reason", models.CharField(max_length=500, verbose_name="reason")),
                ("since", models.DateTimeField(verbose_name="since")),
                (
                    "division",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="suspensions",
                        to="holding.division",
                        verbose_name="division",
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
                "verbose_name": "suspension",
                "verbose_name_plural": "suspensions",
                "ordering": ["order", "division"],
                "constraints": [
                    models.UniqueConstraint(fields=("order", "division"), name="suspension_once"),
                    models.CheckConstraint(
                        condition=models.Q(("share__gte", 1), ("share__lte", 100)), name="suspension_share"
                    ),
                ],
            },
        ),
        migrations.RunSQL(*protect("holding_suspension", "unit_id")),
        migrations.RunSQL(WANTED, migrations.RunSQL.noop),
    ]
