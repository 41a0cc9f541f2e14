"""A kind of incident for external agents that fell silent."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("replacement", "0006_standing_orders"),
    ]

    operations = [
        migrations.AlterField(
            model_name="incident",
            name="kind",
            field=models.CharField(
                choices=[
                    ("below-floor", "below the floor"),
                    ("silence", "agents fell silent: replacement slowed down"),
                    ("mass-silence", "most agents fell silent: replacement stopped"),
                    ("capacity", "no host takes the division"),
                    ("cap", "daily cap of replacements reached"),
                    ("external", "external agents are silent"),
                ],
                max_length=14,
                verbose_name="kind",
            ),
        ),
    ]
