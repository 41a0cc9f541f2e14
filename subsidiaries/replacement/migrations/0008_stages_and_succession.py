"""Probation, promotions, and who succeeds whom."""

import django.db.models.deletion
from django.db import migrations, models

from holding.scope import protect


class Migration(migrations.Migration):
    dependencies = [("holding", "0010_stages"), ("replacement", "0007_external_incident")]

    operations = [
        migrations.AddField(
            model_name="staffingrule",
            name="probation_s",
            field=models.PositiveIntegerField(
                db_default=86400,
                default=86400,
                help_text="Of business time. A loss, and a suspension, begin them anew.",
                verbose_name="seconds of clean service that end a probation",
            ),
        ),
        migrations.AddField(
            model_name="replacement",
            name="promoted_from",
            field=models.ForeignKey(
                db_index=False,
                help_text="Who held a lower seat until then and holds this one now; empty: a new agent.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="promoted_to",
                to="holding.agent",
                verbose_name="promoted agent",
            ),
        ),
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
                ],
                max_length=10,
                verbose_name="reason",
            ),
        ),
        migrations.AddConstraint(
            model_name="replacement",
            constraint=models.UniqueConstraint(
                condition=models.Q(("promoted_from__isnull", False)),
                fields=("promoted_from",),
                name="replacement_promoted_once",
            ),
        ),
        migrations.CreateModel(
            name="Successor",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("rank", models.PositiveSmallIntegerField(verbose_name="rank")),
                (
                    "ordered_by",
                    models.CharField(
                        blank=True,
                        help_text="Empty: as ARP ranks them.",
                        max_length=200,
                        verbose_name="ordered by",
                    ),
                ),
                ("ranked_at", models.DateTimeField(verbose_name="ranked at")),
                (
                    "seat",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="successors",
                        to="holding.seat",
                        verbose_name="seat",
                    ),
                ),
                (
                    "successor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="succeeds",
                        to="holding.seat",
                        verbose_name="successor's seat",
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
                "verbose_name": "successor",
                "verbose_name_plural": "successors",
                "ordering": ["seat", "rank"],
                "constraints": [
                    models.UniqueConstraint(
                        deferrable=models.Deferrable["DEFERRED"], fields=("seat", "rank"), name="successor_rank"
                    ),
                    models.UniqueConstraint(fields=("seat", "successor"), name="successor_once"),
                    models.CheckConstraint(
                        condition=models.Q(("seat", models.F("successor")), _negated=True),
                        name="successor_is_another",
                    ),
                ],
            },
        ),
        migrations.RunSQL(*protect("replacement_successor", "unit_id")),
    ]
