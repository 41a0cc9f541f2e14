"""What hosts report of paused agents, and of manifests that they cannot run."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("replacement", "0004_allowance"),
    ]

    operations = [
        migrations.AddField(
            model_name="divisionstate",
            name="paused",
            field=models.PositiveIntegerField(default=0, verbose_name="paused agents"),
        ),
        migrations.AddField(
            model_name="divisionstate",
            name="refusal",
            field=models.CharField(blank=True, max_length=500, verbose_name="why"),
        ),
        migrations.AddField(
            model_name="divisionstate",
            name="refused_generation",
            field=models.PositiveIntegerField(null=True, verbose_name="manifest that the host refuses"),
        ),
        migrations.AddField(
            model_name="divisionstate",
            name="running",
            field=models.PositiveIntegerField(default=0, verbose_name="agents that may run"),
        ),
    ]
