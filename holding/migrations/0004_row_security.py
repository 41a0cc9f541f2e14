"""Row-level security: a connection sees the rows of the units in its setting `app.units`, and no others.

`*` is all of them, a list of ids those; nothing, or no setting, is no row at all. The managers of `holding.scope`
ask for the right rows; this is the floor beneath them, for a query that forgets to.
"""

from django.db import migrations

from holding.scope import protect

TABLES = {
    "holding_unit": "id",
    "holding_division": "unit_id",
    "holding_seat": "unit_id",
    "holding_agent": "unit_id",
    "holding_incumbency": "exists (select from holding_seat s where s.id = seat_id)",
}


class Migration(migrations.Migration):
    dependencies = [("holding", "0003_whole_keys")]
    operations = [migrations.RunSQL(*protect(table, unit)) for table, unit in TABLES.items()]
