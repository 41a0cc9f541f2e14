"""What other apps ask of the bus: to send, to refuse, and what is known of those whose messages are refused."""

from datetime import timedelta

from django.utils import timezone

from bus.models import FailedDelivery, HandledMessage, OutboxMessage
from bus.outbox import MAX_BODY, Message, publish, publish_many
from bus.quarantine import MAX_KEPT_BODY, QUARANTINED, Rejected, quarantine, take_replays
from bus.suspects import is_suspect, suspect_sources

__all__ = [
    "MAX_BODY",
    "MAX_KEPT_BODY",
    "QUARANTINED",
    "Message",
    "Rejected",
    "is_suspect",
    "publish",
    "publish_many",
    "quarantine",
    "retain",
    "suspect_sources",
    "take_replays",
]

WORK_SENT_FOR = timedelta(days=8)  # a queue keeps an item for seven: its bytes are then still here to be shown
FAILED_FOR = timedelta(days=90)


def retain(*, sent_for: timedelta, handled_for: timedelta) -> tuple[int, int]:
    """Delete messages sent, and ids handled, longer ago than that; return how many of each.

    `handled_for` must exceed the longest time a stream keeps a message, since a redelivered message whose
    id is forgotten would be handled twice. Items of work stay longer: an agent that gives one up leaves only
    its number, and what was sent under it is found here.
    """
    now = timezone.now()
    sent, _ = OutboxMessage.objects.filter(sent_at__lt=now - sent_for, stream_seq=None).delete()
    items, _ = OutboxMessage.objects.filter(sent_at__lt=now - max(sent_for, WORK_SENT_FOR)).delete()
    handled, _ = HandledMessage.objects.filter(handled_at__lt=now - handled_for).delete()
    FailedDelivery.objects.filter(
        advised_at__lt=now - FAILED_FOR, state__in=(FailedDelivery.State.DONE, FailedDelivery.State.GONE)
    ).delete()
    return sent + items, handled
