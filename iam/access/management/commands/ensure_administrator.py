"""`manage.py ensure_administrator`: the first person who may sign in."""

import json
import os
import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from iam.access import services


class Command(BaseCommand):
    """Idempotent: with the same environment it prints the same sign-in and changes nothing."""

    help = (
        "Create the administrator, or give it the password and API token of the environment variables "
        "ADMIN_PASSWORD and ADMIN_TOKEN (random ones when unset). Prints one JSON object."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username", default="admin")

    def handle(self, *args: Any, **options: Any) -> None:
        password = os.environ.get("ADMIN_PASSWORD") or secrets.token_urlsafe(18)
        token = os.environ.get("ADMIN_TOKEN") or secrets.token_urlsafe(32)
        services.ensure_administrator(
            username=options["username"], password=password, token=token, actor="operator"
        )
        self.stdout.write(json.dumps({"username": options["username"], "password": password, "api_token": token}))
