import django.db.models.deletion
from django.db import migrations, models

from holding.scope import protect


class Migration(migrations.Migration):
    dependencies = [
        ("authority", "0003_row_security"),
        ("holding", "0004_row_security"),
        ("replacement", "0003_row_security"),
    ]

    operations = [
        migrations.CreateModel(
            name="Allowance",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("day", models.DateField(verbose_name="day")),
                ("extra", models.PositiveIntegerField(verbose_name="replacements beyond the cap")),
                (
                    "approval",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="authority.approval",
                        verbose_name="approval",
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
                "verbose_name": "allowance beyond the cap",
                "verbose_name_plural": "allowances beyond the cap",
                "indexes": [models.Index(fields=["unit", "day"], name="allowance_of_day")],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("extra__gte", 1)), name="allowance_of_some")
                ],
            },
        ),
        migrations.RunSQL(*protect("replacement_allowance", "unit_id")),
    ]
