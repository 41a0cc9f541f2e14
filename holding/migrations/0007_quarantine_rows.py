"""Refused messages and suspect sources belong to units: row-level security, and keys to the units.

The bus stands below the holding and cannot name its tables; so the holding does. A message of no known unit is seen
only by whoever sees the whole holding.
"""

from django.db import migrations

from holding.scope import protect

KEYS = """
    select set_config('app.units', '*', true);
    update bus_quarantinedmessage q set unit_id = u.id from holding_unit u where u.slug = split_part(q.subject, '.', 3);
    alter table bus_quarantinedmessage add constraint quarantined_unit foreign key (unit_id) references holding_unit (id)
        deferrable initially deferred;
    alter table bus_suspect add constraint suspect_unit foreign key (unit_id) references holding_unit (id)
        deferrable initially deferred;
"""
NO_KEYS = """
    alter table bus_quarantinedmessage drop constraint quarantined_unit;
    alter table bus_suspect drop constraint suspect_unit;
"""


class Migration(migrations.Migration):
    dependencies = [("holding", "0006_standing_orders"), ("bus", "0005_quarantine_decided")]
    operations = [
        migrations.RunSQL(KEYS, NO_KEYS),
        *(migrations.RunSQL(*protect(table, "unit_id")) for table in ("bus_quarantinedmessage", "bus_suspect")),
    ]
