"""Row-level security on approvals and what hangs on them (see holding, migration 0004)."""

from django.db import migrations

from holding.scope import protect

# Whoever may read the approval of a level or a decision may read these; it has the policy by its unit.
OF_APPROVAL = "exists (select from authority_approval a where a.id = approval_id)"
TABLES = {
    "authority_approval": "unit_id",
    "authority_level": OF_APPROVAL,
    "authority_decision": OF_APPROVAL,
}


class Migration(migrations.Migration):
    dependencies = [("holding", "0004_row_security"), ("authority", "0002_kept")]
    operations = [migrations.RunSQL(*protect(table, unit)) for table, unit in TABLES.items()]
