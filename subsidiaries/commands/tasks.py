"""Commands by Celery beat: a tick every two seconds. A lost or doubled tick is harmless."""

from celery import shared_task

from subsidiaries.commands import services


@shared_task
def command_tick() -> None:
    """Let commands go on."""
    services.tick()
