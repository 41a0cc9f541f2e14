"""Tasks of access."""

from celery import shared_task

from iam.access import emergencies, notices, passwords, sign_ins


@shared_task
def send_reset_link(email: str, language: str) -> None:
    """Send the link apart from the request, which takes the same time whether somebody has the address or not."""
    passwords.send_reset_link(email=email, language=language)


@shared_task
def record_locked_name(name: str, address: str) -> None:
    """Look apart from the request, which takes the same time in any case, whose name was locked."""
    sign_ins.record_locked_name(name=name, address=address)


@shared_task(autoretry_for=(OSError,), retry_backoff=10, retry_backoff_max=60, max_retries=5)
def send_notice(**told: str) -> None:
    """Send a notice about somebody's account; try again for some minutes while the mail server is away."""
    notices.send_notice(**told)


@shared_task
def settle_emergencies() -> None:
    """Note emergency access that time has refused or ended."""
    emergencies.settle_emergencies()
