"""Mail of the portal: plain text in the receiver's language; kept in a folder where no server is named."""

import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage as ParsedMessage
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.template.loader import render_to_string
from django.utils import translation

NAME = re.compile(r"[0-9]{19}-[0-9a-f]{8}")
SUFFIX = ".eml"
MOST_KEPT = 500


def send(*, to: str, language: str, template: str, context: Mapping[str, Any]) -> None:
    """Send `templates/mail/<template>.txt`, whose first line is the subject. Raises OSError or SMTPException."""
    with translation.override(language or settings.LANGUAGE_CODE):
        subject, _, text = render_to_string(f"mail/{template}.txt", dict(context)).strip().partition("\n")
    EmailMessage(subject=subject.strip(), body=text.strip() + "\n", to=[to]).send()


class FolderBackend(BaseEmailBackend):
    """Writes each message to a file of `settings.MAIL_DIR`, which only the portal's own user can read."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Write the messages, forget the oldest, and return how many were written."""
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for message in email_messages:
            path = folder / f"{time.time_ns():019}-{secrets.token_hex(4)}{SUFFIX}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(message.message().as_bytes())
        for name in _names()[MOST_KEPT:]:
            (folder / f"{name}{SUFFIX}").unlink(missing_ok=True)
        return len(email_messages)


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message of the folder."""

    name: str
    at: datetime
    to: str
    subject: str
    text: str


def kept() -> list[KeptMessage]:
    """Return the messages of the folder, newest first."""
    return [message for name in _names() if (message := read(name))]


def read(name: str) -> KeptMessage | None:
    """Return the message of that name, None when there is none."""
    if not NAME.fullmatch(name):
        return None
    try:
        raw = (_folder() / f"{name}{SUFFIX}").read_bytes()
    except FileNotFoundError:
        return None
    parsed: ParsedMessage = message_from_bytes(raw, policy=policy.default)
    body = parsed.get_body(("plain",))
    return KeptMessage(
        name=name,
        at=datetime.fromtimestamp(int(name[:19]) / 1e9, tz=UTC),
        to=str(parsed["To"]),
        subject=str(parsed["Subject"]),
        text=str(body.get_content()) if body is not None else "",
    )


def _folder() -> Path:
    return Path(settings.MAIL_DIR)


def _names() -> list[str]:
    """The names of the messages, newest first."""
    found = [path.stem for path in _folder().glob(f"*{SUFFIX}") if NAME.fullmatch(path.stem)]
    return sorted(found, reverse=True)
