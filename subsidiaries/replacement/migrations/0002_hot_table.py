"""Seat states are updated in place all day: leave room in each page, and vacuum early."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("replacement", "0001_initial")]

    operations = [
        migrations.RunSQL(
            "alter table replacement_seatstate set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)",
            "alter table replacement_seatstate reset (fillfactor, autovacuum_vacuum_scale_factor)",
        ),
    ]
