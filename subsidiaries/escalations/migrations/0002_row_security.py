"""Row-level security on escalations, and the permission to decide them for the roles that the portal brings."""

from typing import Any

from django.db import migrations

from holding.scope import protect

TABLES = {
    "escalations_escalation": "unit_id",
    "escalations_step": "exists (select from escalations_escalation e where e.id = escalation_id)",
}
CODE = "escalations.decide"
ROLES = ("administrator", "executive", "subsidiary-head", "supervisor")


def give(apps: Any, schema_editor: Any) -> None:
    """Add the permission to the built-in roles of an installation that has them from before."""
    for role in apps.get_model("access", "AccessRole").objects.filter(slug__in=ROLES, built_in=True):
        if CODE not in role.permissions:
            role.permissions = [*role.permissions, CODE]
            role.save(update_fields=["permissions"])


def take(apps: Any, schema_editor: Any) -> None:
    """Take it away again."""
    for role in apps.get_model("access", "AccessRole").objects.filter(permissions__contains=[CODE]):
        role.permissions = [code for code in role.permissions if code != CODE]
        role.save(update_fields=["permissions"])


class Migration(migrations.Migration):
    dependencies = [("escalations", "0001_initial"), ("access", "0006_reserved_usernames")]
    operations = [
        *(migrations.RunSQL(*protect(table, unit)) for table, unit in TABLES.items()),
        migrations.RunPython(give, take),
    ]
