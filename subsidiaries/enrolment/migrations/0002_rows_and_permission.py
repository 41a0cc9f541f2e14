"""Row-level security, and the permission for the administrators that exist already."""

from typing import Any

from django.db import migrations

from holding.scope import protect

CODE = "agents.enrol"


def give(apps: Any, schema_editor: Any) -> None:
    """Let the built-in administrators enrol agents."""
    for role in apps.get_model("access", "AccessRole").objects.filter(slug="administrator", built_in=True):
        if CODE not in role.permissions:
            role.permissions = [*role.permissions, CODE]
            role.save(update_fields=["permissions"])


class Migration(migrations.Migration):
    dependencies = [("enrolment", "0001_initial"), ("access", "0006_reserved_usernames")]
    operations = [
        migrations.RunSQL(*protect("enrolment_enrolment", "unit_id")),
        migrations.RunPython(give, migrations.RunPython.noop),
    ]
