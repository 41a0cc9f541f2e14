"""Refused messages of every kind, for the pages that show them."""

from datetime import timedelta
from hashlib import sha256
from typing import Any

from django.utils import timezone

from bus.models import QuarantinedMessage, Suspect
from holding.models import Unit

HOSTILE = b'{"reason": "</pre><script>alert(1)</script>", "ts": "now"}'
SOURCE = "org.claytom.pricing.operator.op-0031-g2"


def make_refused(unit: str | None = "pricing", **changes: Any) -> QuarantinedMessage:
    """Return a refused message on the subjects of a unit."""
    body = changes.pop("body", HOSTILE)
    seq = changes.pop("seq", None) or QuarantinedMessage.objects.count() + 1
    subject = f"org.claytom.{unit or 'nowhere'}.metrics.state"
    values: dict[str, Any] = {
        "stream": "CT_EVENTS", "stream_seq": seq, "subject": subject, "source": SOURCE,
        "headers": {"ce-type": "org.claytom.agent.state.v1", "ce-source": SOURCE, "Nats-Msg-Id": f"st-{seq}"},
        "sha256": sha256(body).hexdigest(), "size": len(body), "body": body, "whole": True, "stage": "schema",
        "rule": "schema", "reason": "Invalid RFC3339 encoded datetime - at `$.ts`",
        "unit_id": Unit.objects.get(slug=unit).pk if unit else None,
        **changes,
    }  # fmt: skip
    return QuarantinedMessage.objects.create(**values)


def make_quarantine() -> QuarantinedMessage:
    """Fill the quarantine, with a suspect source; return the first message, of pricing, which is held."""
    now = timezone.now()
    first = make_refused()
    make_refused(
        body=bytes(range(256)) * 20, stage="json", rule="not-json", reason="not UTF-8: byte 0x80 (byte 128)"
    )
    make_refused(size=90_000, whole=False, body=b"x" * 32_768)
    make_refused("tax", state="discarded", decided_at=now, decided_by="ana", note="a test of the sender")
    make_refused(None, stage="type", rule="type-unknown", reason="unknown ce-type 'org.claytom.x.y.v1'")
    make_refused(
        body=b"", stage="delivery", rule="terminated", stream="CT_WORK", whole=False,
        reason="terminated by a receiver of CT_WORK/pricing-operator: no such kind",
    )  # fmt: skip
    for closed in (None, now):
        Suspect.objects.create(
            source=SOURCE if closed is None else "host/a-host-with-quite-a-long-name-01", unit="pricing",
            unit_id=first.unit_id, since=now - timedelta(minutes=3), last_at=now, count=4711, stage="schema",
            rule="schema", reason=first.reason, closed_at=closed,
        )  # fmt: skip
    return first
