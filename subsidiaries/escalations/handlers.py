"""What agents and the portal say of escalations: copies of each step, and what came to the holding."""

from collections.abc import Sequence

from django.db import transaction
from msgspec import UNSET

from bus.dispatch import Message, decode_message, handler, unhandled
from bus.feeds import Feed, Raw, header, register
from bus.services import Rejected, quarantine, take_replays
from claytom_agent.messages import EscalationRaise, EscalationResolve, ce_type
from subsidiaries.escalations import services
from subsidiaries.escalations.models import HOLDING

CONSUMER = "portal-corp"
RAISE, RESOLVE = ce_type("escalation.raise"), ce_type("escalation.resolve")
TOPIC = b"org.claytom.corporate.escalation."


@handler(RAISE)
def take_steps(messages: Sequence[Message]) -> None:
    """Note that a level of agents was asked."""
    services.note_raised(reports=[_report(one, at_the_holding=False) for one in messages])


def take_corporate(raws: Sequence[Raw]) -> None:
    """Take what came to the holding on `corporate.escalation.<unit>`; the other corporate topics are for others."""
    ours = [
        decode_message(raw)
        for raw in raws
        if raw.subject.startswith(TOPIC) and header(raw.headers, b"ce-type") in (RAISE, RESOLVE)
    ]
    with transaction.atomic():
        if refused := [one for one in ours if isinstance(one, Rejected)]:
            quarantine(rejected=refused)
        messages = [one for one in ours if isinstance(one, Message)]
        fresh = list(unhandled(messages, consumer=CONSUMER, replayed=take_replays(raws)))
        services.note_raised(reports=[_report(one, at_the_holding=True) for one in fresh if one.type == RAISE])
        for message in fresh:
            body = message.body
            if isinstance(body, EscalationResolve):
                services.note_resolved(code=body.id, decision=body.decision, actor=body.actor or message.source)


def _report(message: Message, *, at_the_holding: bool) -> services.Report:
    body = message.body
    assert isinstance(body, EscalationRaise)  # noqa: S101 - the dispatcher decodes by type
    return services.Report(
        code=body.id,
        unit=message.subject.split(".")[4 if at_the_holding else 2],
        agent=message.source if body.agent is UNSET else body.agent,
        level=HOLDING if at_the_holding else body.level,
        severity=body.severity,
        matter=body.matter,
        summary=body.summary,
        needs=body.needs,
        work_id="" if body.work_id is UNSET else body.work_id,
        taken_by="" if body.taken_by is UNSET else body.taken_by,
        at=body.ts,
    )


register(Feed(stream="CT_CORP", consumer=CONSUMER, handle=take_corporate, batch=200, process="bus"))
