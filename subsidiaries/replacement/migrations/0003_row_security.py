"""Row-level security on what belongs to units (see holding, migration 0004)."""

from django.db import migrations

from holding.scope import protect

TABLES = {
    "replacement_divisionstate": "exists (select from holding_division d where d.id = division_id)",
    "replacement_seatstate": "unit_id",
    "replacement_census": "unit_id",
    "replacement_unitfloor": "unit_id",
    "replacement_replacement": "unit_id",
    "replacement_incident": "unit_id",
}


class Migration(migrations.Migration):
    dependencies = [("holding", "0004_row_security"), ("replacement", "0002_hot_table")]
    operations = [migrations.RunSQL(*protect(table, unit)) for table, unit in TABLES.items()]
