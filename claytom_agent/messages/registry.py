"""The table of the protocol: each message, who sends it where, what answers it, and what makes it one message.

Schemas, the AsyncAPI document and the documentation are generated from these rows (`bus.contract`); the portal
refuses what does not fit them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import msgspec

from claytom_agent.messages import agents, control, corporate, kpi, learning, work
from claytom_agent.messages.types import ADDRESSES, SEAT, Delivery, MessageType

PROTOCOL: Final = "claytom/1"
MAX_BODY_BYTES: Final = 256 * 1024

STORED: Final = (
    "JetStream: wait for the PubAck; without one publish again with the same id after 0.5, 1 and 2 s (and jitter), "
    "then keep it and go on trying."
)
HINT: Final = "JetStream, one way. A repetition is harmless: the manifest's generation decides."
DIRECTED: Final = (
    "Request, answer within 2 s. The portal keeps it until its deadline and asks again with back-off; "
    "`503 no responders` means absent. It is repeated in `welcome.open`."
)
HELLO: Final = (
    "Request, answer within 5 s; without one ask again after 1 to 60 s, doubling. Refused: not before "
    "`retry_after_s`."
)
PRESENCE: Final = (
    "Plain publish, no acknowledgement. What changed every 5 s (empty when nothing did), everything every 60 s."
)
SAMPLE: Final = (
    " With `Claytom-Seq` a watermark drops what came before; without, one sample per agent and interval counts."
)
QUEUE: Final = (
    "Work queue: pull it from the consumer `<sub>-<role>` of `CT_WORK`; say `+WPI` every 5 s while at it; publish "
    "the result, wait for its PubAck, then `+ACK` the item. `+NAK` gives it back, `+TERM <reason>` when it cannot "
    "be parsed. It comes again after 15 s, 30 s, 2 min and 10 min, five times in all."
)
UPWARD: Final = (
    "Request to the superior's address, `taken` within 5 s; without it, or with `503 no responders`, to the next "
    "level; after L4 to `corporate.escalation.<sub>` (JetStream). A copy of each step goes to `metrics.escalation` "
    "(JetStream)."
)
ORDERED: Final = (
    "One agent: request to its address, answer within 2 s. Many: one way (`<role>.all` plain, `command` "
    "JetStream); confirmed by `observed_generation` in presence."
)
RESENT: Final = (
    "Plain publish, repeated every 5 s while the gap is open; the host publishes again with the same ids."
)

ANSWER: Final = (agents.Answer,)
Body = type[msgspec.Struct]


def _fact(
    number: int, name: str, body: Body, kind: str, key: str, rule: str = STORED, delivery: Delivery = "jetstream"
) -> MessageType:
    """A fact from an agent or host."""
    return MessageType(number, name, body, "agent", "portal", (f"{{sub}}.metrics.{kind}",), delivery, key, rule)


def _directed(
    number: int, name: str, body: Body, key: str, rule: str = DIRECTED, answers: tuple[Body, ...] = ANSWER
) -> MessageType:
    """A request of the portal to one agent."""
    return MessageType(number, name, body, "portal", "agent", ADDRESSES, "request", key, rule, answers)


def _asked(number: int, name: str, body: Body, key: str, rule: str, answers: tuple[Body, ...]) -> MessageType:
    """A request of an agent or host to the portal."""
    verb = name.partition(".")[2]
    return MessageType(
        number, name, body, "agent", "portal", (f"{{sub}}.command.{verb}",), "request", key, rule, answers
    )


def _hint(
    number: int, name: str, body: Body, verb: str, key: str, rule: str = HINT, delivery: Delivery = "jetstream"
) -> MessageType:
    """News from the portal for hosts."""
    return MessageType(number, name, body, "portal", "host", (f"{{sub}}.command.{verb}",), delivery, key, rule)


def _order(verb: str) -> MessageType:
    subjects = (*ADDRESSES, "{sub}.{role}.all", f"{{sub}}.command.{verb}")
    key = "<id>, or the generation of the manifest that holds it"
    # No stream captures command.retire: a retirement is in the manifest, or asked of one agent.
    many = subjects if verb != "retire" else subjects[:-1]
    delivery: Delivery = "jetstream" if verb != "retire" else "request"
    return MessageType(18, f"agent.{verb}", control.Order, "portal", "agent", many, delivery, key, ORDERED, ANSWER)


ROWS: Final[tuple[MessageType, ...]] = (
    _asked(
        1, "agent.hello", agents.Hello, "the lease key: a second hello is welcomed again", HELLO,
        (agents.Welcome, agents.Refused),
    ),
    _asked(
        2, "agent.goodbye", agents.Goodbye, "lease key and epoch",
        "Request, answer within 2 s; best effort: the lease and silence say the same later.",
        (agents.Done, agents.Refused),
    ),
    _fact(
        3, "host.presence", agents.Presence, "presence", "none: the last one by (epoch, ts) counts", PRESENCE,
        "core",
    ),
    replace(
        _fact(
            4, "kpi.sample", kpi.KpiSample, "kpi", "kpi-<sub>-<agentId>-<ts rounded to the interval>",
            STORED + SAMPLE,
        ),
        attributed=False,
    ),
    _fact(5, "agent.state", agents.AgentState, "state", "st-<agentId>-<epoch>-<n>"),
    MessageType(
        6, "work.assigned", work.WorkItem, "portal", "agent", ("{sub}.{role}.any",), "jetstream", "<work_id>", QUEUE
    ),
    _directed(7, "work.offer", work.WorkItem, "<work_id>"),
    _directed(8, "work.cancel", work.WorkCancel, "<work_id>"),
    _fact(
        9, "work.progress", work.WorkProgress, "progress", "none",
        "Plain publish, at most one in 5 s for an item.", "core",
    ),
    _fact(
        10, "work.result", work.WorkResult, "result", "res-<work_id>",
        STORED + " Only then acknowledge the item. The first result counts.",
    ),
    _fact(
        11, "usage.cost", work.UsageCost, "cost", "cost-<agentId>-<call>",
        STORED + " Keep it on disk until then: it must survive a restart.",
    ),
    _directed(12, "training.enrol", learning.TrainingEnrol, "<session>"),
    _directed(12, "training.exam", learning.TrainingExam, "<session>"),
    _fact(13, "training.result", learning.TrainingResult, "training", "tr-<session>-<agentId>"),
    _directed(
        14, "mentoring.session", learning.MentoringSession, "<session>-<turn>",
        "Request to each side in turn, answer within 30 s.", (learning.MentoringReply,),
    ),
    _fact(15, "mentoring.record", learning.MentoringRecord, "mentoring", "me-<session>"),
    MessageType(
        16, "escalation.raise", corporate.EscalationRaise, "subordinate", "superior",
        (*ADDRESSES, "{sub}.metrics.escalation", "corporate.escalation.{sub}"), "request",
        "esc-<id>-<level>", UPWARD, ANSWER,
    ),
    MessageType(
        17, "escalation.resolve", corporate.EscalationResolve, "portal", "agent",
        (*ADDRESSES, "corporate.escalation.{sub}"), "request", "<id>",
        DIRECTED + " What the portal raised itself it settles on `corporate.escalation.<sub>`.", ANSWER,
    ),
    *map(_order, ("pause", "resume", "drain", "retire")),
    _hint(19, "arp.replace", control.Replace, "replace", "rp-<sub>-<division>-<seat>-g<gen>"),
    _hint(
        20, "manifest.sync", control.ManifestSync, "sync", "sync-<division>-<generation>",
        HINT + " The host reads the bucket `CT_SEATS`.",
    ),
    _hint(
        21, "report.request", control.ReportRequest, "report", "none",
        "Plain publish; the host sends full presence within 2 s.", "core",
    ),
    _hint(
        22, "host.config", control.HostConfig, "config", "the version",
        "JetStream, one way. A lower version changes nothing.",
    ),
    MessageType(
        23, "corporate.broadcast", corporate.Broadcast, "portal", "host", ("corporate.broadcast.{topic}",),
        "jetstream", "<id>", "JetStream, in order. Hosts acknowledge in `seen` of their presence.",
    ),
    MessageType(
        24, "corporate.directive", corporate.Directive, "body", "host", ("corporate.directive.{sub}",), "jetstream",
        "<id>", "JetStream. Its effect comes by the manifest.",
    ),
    MessageType(
        25, "council.motion", corporate.CouncilMotion, "portal", "agent", ("corporate.council.{motion}",),
        "jetstream", "<id>", "JetStream. Answered by `council.vote` before `closes_at`.",
    ),
    _asked(
        25, "council.vote", corporate.CouncilVote, "vote-<motion>-<seat>",
        "Request, answer within 5 s; without one ask again with the same content.", ANSWER,
    ),
    _directed(26, "agent.ping", agents.Ping, "none", "Request, answer within 1 s.", (agents.Pong,)),
    MessageType(
        27, "message.quarantined", corporate.Quarantined, "portal", "portal", ("corporate.quarantine.{sub}",),
        "jetstream", "q-<stream>-<seq>", STORED,
    ),
    _hint(
        28, "ingest.receipt", control.IngestReceipt, "receipt", "division, epoch, stream, number",
        "Plain publish after the commit, at most one a second for a division and stream.", "core",
    ),
    _hint(29, "ingest.resend", control.IngestResend, "resend", "division, epoch, stream, range", RESENT, "core"),
    MessageType(
        0, "duty.ask", agents.Ping, "portal", "seat", (SEAT,), "request", "none", "Request, answer within 1 s.",
        (agents.DutyAnswer,),
    ),
    MessageType(
        0, "corporate.brief", corporate.Brief, "seat", "portal", ("corporate.broadcast.{body}",), "jetstream",
        "brief-<body>-<day>", STORED,
    ),
)  # fmt: skip

MESSAGE_TYPES: Final[Mapping[str, MessageType]] = {kind.name: kind for kind in ROWS}
BY_CE_TYPE: Final[Mapping[str, MessageType]] = {kind.ce_type: kind for kind in ROWS}


def ce_type(name: str) -> str:
    """Return the `ce-type` of a message name of the registry; raise `KeyError` if there is none."""
    return MESSAGE_TYPES[name].ce_type
