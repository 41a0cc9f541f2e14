"""The built-in roles may also write blueprint versions and roll them out: those that the code says."""

from typing import Any

from django.db import migrations

HELD = {
    "administrator": ["blueprints.manage", "rollouts.manage"],
    "executive": ["blueprints.manage", "rollouts.manage"],
    "subsidiary-head": ["rollouts.manage"],
}


def give(apps: Any, schema_editor: Any) -> None:
    """Add what a role does not hold yet (a new database has it already)."""
    for role in apps.get_model("access", "AccessRole").objects.filter(slug__in=HELD, built_in=True):
        role.permissions += [code for code in HELD[role.slug] if code not in role.permissions]
        role.save(update_fields=["permissions"])


def take(apps: Any, schema_editor: Any) -> None:
    """Take it back."""
    for role in apps.get_model("access", "AccessRole").objects.filter(slug__in=HELD, built_in=True):
        gone = ("blueprints.", "rollouts.")
        role.permissions = [code for code in role.permissions if not code.startswith(gone)]
        role.save(update_fields=["permissions"])


class Migration(migrations.Migration):
    dependencies = [("access", "0008_quarantine_permissions")]
    operations = [migrations.RunPython(give, take)]
