"""The built-in roles may see the quarantine, and decide about its messages, as `permissions.py` says."""

from django.db import migrations

GIVEN = {
    "administrator": ["quarantine.view", "quarantine.decide"],
    "executive": ["quarantine.view"],
    "auditor": ["quarantine.view"],
    "subsidiary-head": ["quarantine.view", "quarantine.decide"],
    "supervisor": ["quarantine.view"],
}


def give(apps, schema_editor):
    role = apps.get_model("access", "AccessRole")
    for one in role.objects.using(schema_editor.connection.alias).filter(slug__in=GIVEN):
        one.permissions = [*one.permissions, *(code for code in GIVEN[one.slug] if code not in one.permissions)]
        one.save(update_fields=["permissions"])


def take(apps, schema_editor):
    role = apps.get_model("access", "AccessRole")
    for one in role.objects.using(schema_editor.connection.alias).all():
        kept = [code for code in one.permissions if not code.startswith("quarantine.")]
        if kept != one.permissions:
            one.permissions = kept
            one.save(update_fields=["permissions"])


class Migration(migrations.Migration):
    dependencies = [("access", "0007_commands")]
    operations = [migrations.RunPython(give, take)]
