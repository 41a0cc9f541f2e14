"""Names that the ledger uses for the portal itself are refused; nothing in the database changes."""

from django.db import migrations, models

import iam.access.usernames


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0005_lasting_rights"),
    ]

    operations = [
        migrations.AlterField(
            model_name="user",
            name="username",
            field=models.CharField(
                error_messages={"unique": "A user with that username already exists."},
                help_text="Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only.",
                max_length=150,
                unique=True,
                validators=[iam.access.usernames.UsernameValidator()],
                verbose_name="username",
            ),
        ),
    ]
