"""Watermarks are of every stream of hosts and not of samples only: their table moves here, with what it holds."""

from django.db import migrations, models

import bus.models

MOVE = """
    alter table performance_watermark rename to bus_watermark;
    alter sequence performance_watermark_id_seq rename to bus_watermark_id_seq;
    alter index performance_watermark_pkey rename to bus_watermark_pkey;
"""
BACK = """
    alter index bus_watermark_pkey rename to performance_watermark_pkey;
    alter sequence bus_watermark_id_seq rename to performance_watermark_id_seq;
    alter table bus_watermark rename to performance_watermark;
"""


class Migration(migrations.Migration):
    dependencies = [("bus", "0002_counter"), ("performance", "0004_closed_partitions")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(MOVE, BACK)],
            state_operations=[
                migrations.CreateModel(
                    name="Watermark",
                    fields=[
                        ("id", models.BigAutoField(primary_key=True, serialize=False)),
                        ("division", models.CharField(max_length=60, verbose_name="division")),
                        ("stream", models.CharField(max_length=40, verbose_name="stream")),
                        ("epoch", models.BigIntegerField(verbose_name="epoch")),
                        ("received", bus.models.Int8MultiRangeField(verbose_name="received")),
                        ("updated_at", models.DateTimeField(verbose_name="updated at")),
                    ],
                    options={
                        "verbose_name": "watermark",
                        "verbose_name_plural": "watermarks",
                        "constraints": [
                            models.UniqueConstraint(fields=("division", "stream", "epoch"), name="watermark_once")
                        ],
                    },
                )
            ],
        ),
        migrations.AddField(
            model_name="watermark",
            name="receipt_due",
            field=models.BooleanField(db_default=False, default=False, verbose_name="receipt due"),
        ),
        migrations.CreateModel(
            name="Lease",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("division", models.CharField(max_length=64, verbose_name="division")),
                ("epoch", models.BigIntegerField(verbose_name="epoch")),
                ("host", models.CharField(blank=True, max_length=100, verbose_name="host")),
                ("acquired_at", models.DateTimeField(verbose_name="acquired at")),
                ("noted_at", models.DateTimeField(verbose_name="noted at")),
            ],
            options={
                "verbose_name": "lease",
                "verbose_name_plural": "leases",
                "constraints": [models.UniqueConstraint(fields=("division", "epoch"), name="lease_once")],
            },
        ),
    ]
