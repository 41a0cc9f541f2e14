"""`manage.py forget_second_steps`: for somebody who has lost app, keys and recovery codes."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from iam.access import mfa
from iam.access.models import User


class Command(BaseCommand):
    """Idempotent; the sessions of the person end."""

    help = "Remove the second steps of a person. Make sure first who asks for it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"Nobody has the name {options['username']}.")
        removed = mfa.forget(user=user, actor="operator")
        self.stdout.write(f"{removed} removed")
