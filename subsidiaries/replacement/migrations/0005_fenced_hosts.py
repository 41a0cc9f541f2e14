"""Hosts that act for a division without holding it."""

import django.db.models.deletion
from django.db import migrations, models

from holding.scope import protect

STANDINGS = [
    ("superseded", "lost its lease"),
    ("unknown", "never had this lease"),
    ("impostor", "uses the lease of another host"),
]
OF_UNIT = "exists (select from holding_division d where d.id = division_id)"


class Migration(migrations.Migration):
    dependencies = [("holding", "0004_row_security"), ("replacement", "0004_allowance")]

    operations = [
        migrations.CreateModel(
            name="FencedHost",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("epoch", models.BigIntegerField(verbose_name="epoch")),
                ("host", models.CharField(blank=True, max_length=100, verbose_name="host")),
                ("standing", models.CharField(choices=STANDINGS, max_length=12, verbose_name="reason")),
                ("current_epoch", models.BigIntegerField(default=0, verbose_name="epoch in force")),
                ("current_host", models.CharField(blank=True, max_length=100, verbose_name="host in charge")),
                ("first_at", models.DateTimeField(verbose_name="first seen")),
                ("last_at", models.DateTimeField(verbose_name="last seen")),
                ("messages", models.PositiveBigIntegerField(default=0, verbose_name="messages")),
                ("sent", models.JSONField(default=dict, verbose_name="messages by type")),
                (
                    "division",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="holding.division",
                        verbose_name="division",
                    ),
                ),
            ],
            options={
                "verbose_name": "fenced host",
                "verbose_name_plural": "fenced hosts",
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["-last_at"], name="fenced_host_last")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("division", "epoch", "host", "standing"), name="fenced_host_once"
                    )
                ],
            },
        ),
        migrations.RunSQL(*protect("replacement_fencedhost", OF_UNIT)),
    ]
