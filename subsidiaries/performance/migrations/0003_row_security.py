"""Row-level security on what belongs to units (see holding, migration 0004); samples by the partitioned table."""

from django.db import migrations

from holding.scope import protect

TABLES = ("performance_kpisample", "performance_kpilatest", "performance_kpiminute", "performance_kpicoverage")


class Migration(migrations.Migration):
    dependencies = [("holding", "0004_row_security"), ("performance", "0002_partitions")]
    operations = [migrations.RunSQL(*protect(table, "unit_id")) for table in TABLES]
