"""Enrolments: seats that are offered to, or held by, agents with a connection of their own."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("holding", "0009_external_seats"),
    ]

    operations = [
        migrations.CreateModel(
            name="Enrolment",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("digest", models.CharField(max_length=64, unique=True, verbose_name="digest of the token")),
                ("actor", models.CharField(max_length=200, verbose_name="enrolled by")),
                ("reason", models.CharField(max_length=200, verbose_name="reason")),
                ("created_at", models.DateTimeField(verbose_name="enrolled at")),
                ("expires_at", models.DateTimeField(verbose_name="token counts until")),
                ("used_at", models.DateTimeField(null=True, verbose_name="token used at")),
                ("public_key", models.CharField(blank=True, max_length=60, verbose_name="public key")),
                ("credential_until", models.DateTimeField(null=True, verbose_name="credential counts until")),
                ("epoch", models.BigIntegerField(default=0, verbose_name="epoch")),
                ("seen_at", models.DateTimeField(null=True, verbose_name="last heard of")),
                ("reported_at", models.DateTimeField(null=True, verbose_name="time of the last report")),
                ("name", models.CharField(blank=True, max_length=100, verbose_name="name")),
                ("version", models.CharField(blank=True, max_length=100, verbose_name="version")),
                ("language", models.CharField(blank=True, max_length=100, verbose_name="language")),
                ("ended_at", models.DateTimeField(null=True, verbose_name="ended at")),
                ("ended_by", models.CharField(blank=True, max_length=200, verbose_name="ended by")),
                ("revoked_at", models.DateTimeField(null=True, verbose_name="credential revoked at")),
                (
                    "agent",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="enrolment",
                        to="holding.agent",
                        verbose_name="agent",
                    ),
                ),
                (
                    "seat",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="enrolments",
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
                "verbose_name": "enrolment",
                "verbose_name_plural": "enrolments",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["unit", "-id"], name="enrolment_unit"),
                    models.Index(
                        condition=models.Q(
                            ("ended_at__isnull", False),
                            ("revoked_at", None),
                            models.Q(("public_key", ""), _negated=True),
                        ),
                        fields=["id"],
                        name="enrolment_to_revoke",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at", None)), fields=("seat",), name="enrolment_one_open"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("agent", None), ("epoch", 0), ("used_at", None)),
                            models.Q(("agent__isnull", False), ("used_at__isnull", False)),
                            _connector="OR",
                        ),
                        name="enrolment_used_has_an_agent",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("expires_at__gt", models.F("created_at"))),
                        name="enrolment_token_counts_for_a_time",
                    ),
                ],
            },
        ),
    ]
