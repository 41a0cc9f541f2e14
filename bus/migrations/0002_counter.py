from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("bus", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Counter",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=80, verbose_name="name")),
                ("labels", models.JSONField(default=dict, verbose_name="labels")),
                ("value", models.BigIntegerField(default=0, verbose_name="value")),
            ],
            options={
                "verbose_name": "counter",
                "verbose_name_plural": "counters",
                "constraints": [models.UniqueConstraint(fields=("name", "labels"), name="counter_once")],
            },
        ),
    ]
