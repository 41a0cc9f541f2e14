"""What is repeated until it is done: revoking the logins of agents that were withdrawn."""

from celery import shared_task

from subsidiaries.enrolment import services


@shared_task
def enrolment_tick() -> None:
    """Tell the server of logins that are to be refused."""
    services.revoke_pending()
