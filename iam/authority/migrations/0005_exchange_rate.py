"""The register of exchange rates, which is only added to."""

from django.db import migrations, models

FORWARD = """
create trigger append_only before update or delete on authority_exchangerate
    for each row execute function authority_refuse_change();
"""
BACKWARD = "drop trigger append_only on authority_exchangerate;"


class Migration(migrations.Migration):
    dependencies = [
        ("authority", "0004_rate_day"),
    ]

    operations = [
        migrations.CreateModel(
            name="ExchangeRate",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                (
                    "rate",
                    models.DecimalField(
                        decimal_places=8, max_digits=18, verbose_name="EUR for one of the currency"
                    ),
                ),
                ("on", models.DateField(verbose_name="day")),
                ("source", models.CharField(max_length=200, verbose_name="source")),
                ("recorded_by", models.CharField(max_length=200, verbose_name="recorded by")),
                ("recorded_at", models.DateTimeField(verbose_name="recorded at")),
            ],
            options={
                "verbose_name": "exchange rate",
                "verbose_name_plural": "exchange rates",
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["currency", "-on", "-id"], name="exchange_rate_newest")],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("rate__gt", 0)), name="exchange_rate_positive"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("currency__regex", "^[A-Z]{3}$"), models.Q(("currency", "EUR"), _negated=True)
                        ),
                        name="exchange_rate_currency",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("source", ""), _negated=True), models.Q(("recorded_by", ""), _negated=True)
                        ),
                        name="exchange_rate_source",
                    ),
                ],
            },
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
