"""The tables of PMON."""

import django.db.models.deletion
import django.db.models.expressions
from django.db import migrations, models

import bus.models

# Partitioned by hours, which Django cannot say; docs/decisions/0014-kpi-hour-partitions.md says why hours.
CREATE_SAMPLES = """
create table performance_kpisample (
    seq                    bigint           not null,
    ts                     timestamptz      not null,
    received_at            timestamptz      not null,
    unit_id                integer          not null,
    role                   text             not null,
    ordinal                integer,
    generation             integer,
    throughput_per_day     double precision not null,
    quality_score          double precision not null,
    sla_met_pct            double precision not null,
    innovation_landings_mo double precision not null,
    training_hours_w       double precision not null,
    okrs                   jsonb,
    epoch                  bigint,
    stale                  boolean          not null
) partition by range (ts);
create index kpi_sample_ts on performance_kpisample using brin (ts) with (pages_per_range = 32);
create table performance_kpisample_default partition of performance_kpisample default;
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("holding", "0002_identities"),
    ]

    operations = [
        migrations.CreateModel(
            name="KpiCoverage",
            fields=[
                (
                    "unit",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="holding.unit",
                        verbose_name="unit",
                    ),
                ),
                ("seats", models.PositiveIntegerField(verbose_name="seats")),
                ("buckets", models.JSONField(verbose_name="seats by the time of their last sample")),
                ("as_of", models.DateTimeField(verbose_name="as of")),
            ],
            options={
                "verbose_name": "KPI coverage",
                "verbose_name_plural": "KPI coverage",
            },
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(CREATE_SAMPLES, "drop table performance_kpisample")],
            state_operations=[
                migrations.CreateModel(
                    name="KpiSample",
                    fields=[
                        (
                            "seq",
                            models.BigIntegerField(
                                primary_key=True, serialize=False, verbose_name="sequence in the stream"
                            ),
                        ),
                        ("ts", models.DateTimeField(verbose_name="time")),
                        ("received_at", models.DateTimeField(verbose_name="received at")),
                        ("role", models.TextField(verbose_name="role or body")),
                        ("ordinal", models.IntegerField(null=True, verbose_name="ordinal")),
                        ("generation", models.IntegerField(null=True, verbose_name="generation")),
                        ("throughput_per_day", models.FloatField(verbose_name="throughput per day")),
                        ("quality_score", models.FloatField(verbose_name="quality score")),
                        ("sla_met_pct", models.FloatField(verbose_name="SLA met (%)")),
                        ("innovation_landings_mo", models.FloatField(verbose_name="innovation landings per month")),
                        ("training_hours_w", models.FloatField(verbose_name="training hours per week")),
                        ("okrs", models.JSONField(null=True, verbose_name="OKRs")),
                        ("epoch", models.BigIntegerField(null=True, verbose_name="epoch")),
                        ("stale", models.BooleanField(default=False, verbose_name="of a fenced epoch")),
                        (
                            "unit",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                related_name="+",
                                to="holding.unit",
                                verbose_name="unit",
                            ),
                        ),
                    ],
                    options={
                        "verbose_name": "KPI sample",
                        "verbose_name_plural": "KPI samples",
                    },
                ),
            ],
        ),
        migrations.CreateModel(
            name="SampleKey",
            fields=[
                ("key", models.UUIDField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField(verbose_name="at")),
            ],
            options={
                "verbose_name": "key of a sample",
                "verbose_name_plural": "keys of samples",
                "indexes": [models.Index(fields=["at"], name="sample_key_at")],
            },
        ),
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
        ),
        migrations.CreateModel(
            name="KpiLatest",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("ordinal", models.IntegerField(verbose_name="ordinal")),
                ("role", models.CharField(max_length=24, verbose_name="role or body")),
                ("generation", models.IntegerField(null=True, verbose_name="generation")),
                ("ts", models.DateTimeField(verbose_name="time")),
                ("throughput_per_day", models.FloatField(verbose_name="throughput per day")),
                ("quality_score", models.FloatField(verbose_name="quality score")),
                ("sla_met_pct", models.FloatField(verbose_name="SLA met (%)")),
                ("innovation_landings_mo", models.FloatField(verbose_name="innovation landings per month")),
                ("training_hours_w", models.FloatField(verbose_name="training hours per week")),
                (
                    "unit",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="holding.unit",
                        verbose_name="unit",
                    ),
                ),
            ],
            options={
                "verbose_name": "last KPI of a seat",
                "verbose_name_plural": "last KPIs of seats",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "id",
                                django.db.models.expressions.CombinedExpression(
                                    django.db.models.expressions.CombinedExpression(
                                        models.F("unit_id"), "*", models.Value(10000000)
                                    ),
                                    "+",
                                    models.F("ordinal"),
                                ),
                            )
                        ),
                        name="kpi_latest_key",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="KpiMinute",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("minute", models.DateTimeField(verbose_name="minute")),
                ("role", models.CharField(max_length=24, verbose_name="role or body")),
                ("n", models.PositiveIntegerField(verbose_name="samples")),
                ("sum_throughput_per_day", models.FloatField(verbose_name="sum of throughput per day")),
                ("sum_quality_score", models.FloatField(verbose_name="sum of quality scores")),
                ("sum_sla_met_pct", models.FloatField(verbose_name="sum of SLA met (%)")),
                (
                    "sum_innovation_landings_mo",
                    models.FloatField(verbose_name="sum of innovation landings per month"),
                ),
                ("sum_training_hours_w", models.FloatField(verbose_name="sum of training hours per week")),
                (
                    "unit",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="holding.unit",
                        verbose_name="unit",
                    ),
                ),
            ],
            options={
                "verbose_name": "KPIs of a minute",
                "verbose_name_plural": "KPIs by minute",
                "indexes": [models.Index(fields=["unit", "minute"], name="kpi_minute_of_unit")],
                "constraints": [
                    models.UniqueConstraint(fields=("minute", "unit", "role"), name="kpi_minute_cell"),
                    models.CheckConstraint(condition=models.Q(("n__gt", 0)), name="kpi_minute_not_empty"),
                ],
            },
        ),
        migrations.RunSQL(
            # Each row is updated once a minute: room in its own page keeps the index out of it.
            "alter table performance_kpilatest set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.5)",
            "alter table performance_kpilatest reset (fillfactor, autovacuum_vacuum_scale_factor)",
        ),
    ]
