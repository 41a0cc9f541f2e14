"""The watermarks' table belongs to the bus (its migration 0003)."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("performance", "0004_closed_partitions"), ("bus", "0003_watermarks_and_leases")]

    operations = [
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel(name="Watermark")]),
    ]
