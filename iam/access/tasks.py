"""Tasks of access."""

from celery import shared_task

from iam.access import emergencies, passwords, sign_ins


@shared_task
def send_reset_links(email: str, language: str) -> None:
    """Send the links apart from the request, which takes the same time whether somebody has the address or not."""
    passwords.send_reset_links(email=email, language=language)


@shared_task
def record_locked_name(name: str, address: str) -> None:
    """Look apart from the request, which takes the same time in any case, whose name was locked."""
    sign_ins.record_locked_name(name=name, address=address)


@shared_task
def settle_emergencies() -> None:
    """Note emergency access that time has refused or ended."""
    emergencies.settle_emergencies()
