"""An e-mail address is one person's, whatever its case: links and the identity provider find people by it."""

from collections import defaultdict
from typing import Any

from django.core.management.base import CommandError
from django.db import migrations, models
from django.db.models.functions import Lower


def refuse_collisions(apps: Any, schema_editor: Any) -> None:
    """Raise CommandError naming the accounts that share an address: the portal cannot know whose it is."""
    people = apps.get_model("access", "User").objects.using(schema_editor.connection.alias)
    names: dict[str, list[str]] = defaultdict(list)
    told = people.exclude(email="").annotate(address=Lower("email")).order_by("username")
    for address, username in told.values_list("address", "username"):
        names[address].append(username)
    shared = [f"{address} ({', '.join(those)})" for address, those in sorted(names.items()) if len(those) > 1]
    if shared:
        raise CommandError(
            "An e-mail address belongs to one account from this version on, and these are shared: "
            f"{'; '.join(shared)}. With the former version, give the address to one of each and another, or none, "
            "to the others (/admin/access/user/); then migrate again. Nothing was changed."
        )


def nothing(apps: Any, schema_editor: Any) -> None:
    """Addresses that are unique may stay so."""


class Migration(migrations.Migration):
    dependencies = [("access", "0003_grants")]
    operations = [
        migrations.RunPython(refuse_collisions, nothing),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(
                Lower("email"), condition=models.Q(("email", ""), _negated=True), name="user_email_once"
            ),
        ),
    ]
