"""Row-level security on the mailbox of agents: its table is the bus's, which does not know what a unit is."""

from django.db import migrations

from holding.scope import protect


class Migration(migrations.Migration):
    dependencies = [("bus", "0004_directedmessage"), ("holding", "0004_row_security")]
    operations = [migrations.RunSQL(*protect("bus_directedmessage", "unit_id"))]
