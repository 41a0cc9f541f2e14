"""Seats whose agent has a connection of its own."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("holding", "0008_first_staffing"),
    ]

    operations = [
        migrations.AddField(
            model_name="seat",
            name="external",
            field=models.BooleanField(db_default=False, default=False, verbose_name="external"),
        ),
        migrations.RunSQL(
            "create index seat_external on holding_seat (unit_id) where external",
            "drop index seat_external",
            state_operations=[
                migrations.AddIndex(
                    model_name="seat",
                    index=models.Index(
                        condition=models.Q(("external", True)), fields=["unit"], name="seat_external"
                    ),
                ),
            ],
        ),
    ]
