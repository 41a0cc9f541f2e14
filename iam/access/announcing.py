"""What the bus is told of emergency access: raised when it is asked for, resolved when it is decided and ends."""

from bus import services as bus
from claytom_agent.subjects import corporate_topic
from holding.models import Unit
from iam.access.models import EmergencyAccess

SOURCE = "portal/access"
CORPORATE = "corporate"


def announce_request(emergency: EmergencyAccess, unit: Unit | None) -> None:
    """Raise an escalation in the caller's transaction: a second person is needed."""
    bus.publish(
        subject=corporate_topic("escalation", unit.slug if unit else CORPORATE),
        type="org.claytom.escalation.raise.v1",
        source=SOURCE,
        body={
            "ts": emergency.requested_at.isoformat(timespec="milliseconds"),
            "id": f"emergency-{emergency.pk}",
            "level": "L4",
            "severity": "critical",
            "summary": f"{emergency.user.username} asks for {emergency.role.slug}: {emergency.reason}"[:500],
            "needs": "a second person who approves or refuses, within an hour",
            "matter": "security",
        },
        dedup=f"esc-emergency-{emergency.pk}",
    )


def announce_outcome(emergency: EmergencyAccess, *, actor: str) -> None:
    """Tell in the caller's transaction what has become of it: its state, and by whom."""
    unit = emergency.unit
    bus.publish(
        subject=corporate_topic("escalation", unit.slug if unit else CORPORATE),
        type="org.claytom.escalation.resolve.v1",
        source=SOURCE,
        body={"id": f"emergency-{emergency.pk}", "decision": str(emergency.state), "actor": actor},
        dedup=f"esc-emergency-{emergency.pk}-{emergency.state}",
    )
