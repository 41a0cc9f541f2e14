"""What an approval tells: its ledger entries, and the messages to those who asked and those who may decide."""

from datetime import datetime
from typing import Any

from audit import services as audit
from bus import services as bus
from claytom_agent.subjects import corporate_topic
from iam.authority.models import Approval

SOURCE = "portal/authority"


def office_slugs(approval: Approval) -> list[str]:
    """Return the offices that may decide, in the order in which they came to it."""
    return list(approval.levels.order_by("pk").values_list("office__slug", flat=True))


def state_of(approval: Approval) -> dict[str, Any]:
    """Return what the ledger takes the digest of."""
    return {"approval": approval.pk, "state": approval.state, "failure": approval.failure}


def request_details(approval: Approval) -> dict[str, Any]:
    """Return what the ledger keeps of a request: of its parameters, the digest."""
    return {
        "matter": approval.matter.slug,
        "unit": approval.unit.slug,
        "value": str(approval.value),
        "currency": approval.currency,
        "fx_rate": str(approval.fx_rate),
        "fx_on": approval.fx_on.isoformat() if approval.fx_on else "",
        "judged": str(approval.judged),
        "counterparty": approval.counterparty,
        "matrix": approval.version.number,
        "offices": office_slugs(approval),
        "by_rule": approval.by_rule,
        "action": approval.action,
        "parameters": approval.digest,
    }


def record(
    approval: Approval,
    *,
    actor: str,
    action: str,
    details: dict[str, Any],
    before: dict[str, Any] | None = None,
) -> None:
    """Write a ledger entry about an approval."""
    audit.record(
        actor=actor,
        action=action,
        object=f"approval/{approval.pk}",
        before=before,
        after=state_of(approval),
        details={**details, "state": approval.state},
        correlation_id=f"approval-{approval.pk}",
    )


def tell(approval: Approval, at: datetime) -> None:
    """Tell the requester what became of it. Every host can read this: neither title nor value."""
    bus.publish(
        subject=corporate_topic("directive", approval.unit.slug),
        type=f"org.claytom.approval.{approval.state}.v1",
        source=SOURCE,
        body={**_body(approval), "state": approval.state, "at": at.isoformat()},
        dedup=f"approval-{approval.pk}-{approval.state}",
    )


def call(approval: Approval, what: str, turn: int) -> None:
    """Call on those who may decide."""
    bus.publish(
        subject=corporate_topic("escalation", approval.unit.slug),
        type=f"org.claytom.approval.{what}.v1",
        source=SOURCE,
        body={**_body(approval), "offices": office_slugs(approval), "expires": approval.expires_at.isoformat()},
        dedup=f"approval-{approval.pk}-{what}-{turn}",
    )


def _body(approval: Approval) -> dict[str, Any]:
    return {
        "id": approval.pk,
        "key": approval.key,
        "matter": approval.matter.slug,
        "unit": approval.unit.slug,
        "requester": approval.actor,
    }
