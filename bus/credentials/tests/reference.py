"""What each login may do, written by hand from the protocol: nothing here is computed from `permissions`.

One line for each right: who, `pub` or `sub`, a pattern. `{s}` is the bearer's unit, `{r}` its role, `{n}` its name.
A pattern with `!` takes away what another gave.
"""

RIGHTS = """
unit  pub  org.claytom.{s}.metrics.*
unit  pub  org.claytom.{s}.director.*
unit  pub  org.claytom.{s}.coordinator.*
unit  pub  org.claytom.{s}.specialist.*
unit  pub  org.claytom.{s}.innovator.*
unit  pub  org.claytom.{s}.operator.*
unit  pub  org.claytom.{s}.command.hello
unit  pub  org.claytom.{s}.command.goodbye
unit  pub  org.claytom.{s}.command.pull-manifest
unit  pub  org.claytom.{s}.command.vote
unit  pub  org.claytom.corporate.escalation.{s}
unit  pub  $KV.CT_LEASES.{s}.*
unit  pub  $JS.API.CONSUMER.INFO.CT_WORK.{s}-director
unit  pub  $JS.API.CONSUMER.INFO.CT_WORK.{s}-coordinator
unit  pub  $JS.API.CONSUMER.INFO.CT_WORK.{s}-specialist
unit  pub  $JS.API.CONSUMER.INFO.CT_WORK.{s}-innovator
unit  pub  $JS.API.CONSUMER.INFO.CT_WORK.{s}-operator
unit  pub  $JS.API.CONSUMER.MSG.NEXT.CT_WORK.{s}-director
unit  pub  $JS.API.CONSUMER.MSG.NEXT.CT_WORK.{s}-coordinator
unit  pub  $JS.API.CONSUMER.MSG.NEXT.CT_WORK.{s}-specialist
unit  pub  $JS.API.CONSUMER.MSG.NEXT.CT_WORK.{s}-innovator
unit  pub  $JS.API.CONSUMER.MSG.NEXT.CT_WORK.{s}-operator
unit  pub  $JS.ACK.CT_WORK.{s}-director.>
unit  pub  $JS.ACK.CT_WORK.{s}-coordinator.>
unit  pub  $JS.ACK.CT_WORK.{s}-specialist.>
unit  pub  $JS.ACK.CT_WORK.{s}-innovator.>
unit  pub  $JS.ACK.CT_WORK.{s}-operator.>
unit  pub  $JS.ACK.*.*.CT_WORK.{s}-director.>
unit  pub  $JS.ACK.*.*.CT_WORK.{s}-coordinator.>
unit  pub  $JS.ACK.*.*.CT_WORK.{s}-specialist.>
unit  pub  $JS.ACK.*.*.CT_WORK.{s}-innovator.>
unit  pub  $JS.ACK.*.*.CT_WORK.{s}-operator.>
unit  sub  org.claytom.{s}.director.*
unit  sub  org.claytom.{s}.coordinator.*
unit  sub  org.claytom.{s}.specialist.*
unit  sub  org.claytom.{s}.innovator.*
unit  sub  org.claytom.{s}.operator.*
unit  sub  org.claytom.{s}.command.sync
unit  sub  org.claytom.{s}.command.pause
unit  sub  org.claytom.{s}.command.resume
unit  sub  org.claytom.{s}.command.drain
unit  sub  org.claytom.{s}.command.replace
unit  sub  org.claytom.{s}.command.scale
unit  sub  org.claytom.{s}.command.config
unit  sub  org.claytom.{s}.command.report
unit  sub  org.claytom.{s}.command.broadcast
unit  sub  org.claytom.{s}.command.receipt
unit  sub  org.claytom.{s}.command.resend
unit  sub  org.claytom.corporate.broadcast.*
unit  sub  org.claytom.corporate.council.*
unit  sub  org.claytom.corporate.directive.{s}
unit  sub  _INBOX_{s}.>

corporate  pub  org.claytom.corporate.*.*
corporate  pub  !org.claytom.corporate.command.sync
corporate  pub  !org.claytom.corporate.command.pause
corporate  pub  !org.claytom.corporate.command.resume
corporate  pub  !org.claytom.corporate.command.drain
corporate  pub  !org.claytom.corporate.command.replace
corporate  pub  !org.claytom.corporate.command.scale
corporate  pub  !org.claytom.corporate.command.config
corporate  pub  !org.claytom.corporate.command.report
corporate  pub  !org.claytom.corporate.command.broadcast
corporate  pub  !org.claytom.corporate.command.receipt
corporate  pub  !org.claytom.corporate.command.resend
corporate  pub  !org.claytom.corporate.escalation.*
corporate  pub  !org.claytom.corporate.quarantine.*
corporate  pub  $KV.CT_LEASES.corporate.*
corporate  sub  org.claytom.corporate.*.*
corporate  sub  !org.claytom.corporate.command.hello
corporate  sub  !org.claytom.corporate.command.goodbye
corporate  sub  !org.claytom.corporate.command.pull-manifest
corporate  sub  !org.claytom.corporate.command.vote
corporate  sub  !org.claytom.corporate.quarantine.*
corporate  sub  _INBOX_corporate.>

agent  pub  org.claytom.{s}.metrics.*
agent  pub  org.claytom.{s}.command.hello
agent  pub  org.claytom.{s}.command.goodbye
agent  pub  $JS.API.CONSUMER.INFO.CT_WORK.{s}-{r}
agent  pub  $JS.API.CONSUMER.MSG.NEXT.CT_WORK.{s}-{r}
agent  pub  $JS.ACK.CT_WORK.{s}-{r}.>
agent  pub  $JS.ACK.*.*.CT_WORK.{s}-{r}.>
agent  sub  org.claytom.{s}.{r}.{n}
agent  sub  org.claytom.{s}.{r}.all
agent  sub  org.claytom.{s}.command.sync
agent  sub  org.claytom.{s}.command.pause
agent  sub  org.claytom.{s}.command.resume
agent  sub  org.claytom.{s}.command.drain
agent  sub  org.claytom.{s}.command.replace
agent  sub  org.claytom.{s}.command.scale
agent  sub  org.claytom.{s}.command.config
agent  sub  org.claytom.{s}.command.report
agent  sub  org.claytom.{s}.command.broadcast
agent  sub  org.claytom.{s}.command.receipt
agent  sub  org.claytom.{s}.command.resend
agent  sub  org.claytom.corporate.broadcast.*
agent  sub  _INBOX_{s}_{r}_{n}.>

host  pub  $KV.CT_LEASES.hosts.*
host  pub  $JS.API.INFO
host  pub  $JS.API.STREAM.INFO.KV_CT_LEASES
host  pub  $JS.API.STREAM.INFO.KV_CT_SEATS
host  pub  $JS.API.STREAM.MSG.GET.KV_CT_LEASES
host  pub  $JS.API.STREAM.MSG.GET.KV_CT_SEATS
host  pub  $JS.API.CONSUMER.CREATE.KV_CT_LEASES
host  pub  $JS.API.CONSUMER.CREATE.KV_CT_SEATS
host  sub  _INBOX__host_{n}.>

bus  pub  org.claytom.*.metrics.*
bus  pub  org.claytom.*.director.*
bus  pub  org.claytom.*.coordinator.*
bus  pub  org.claytom.*.specialist.*
bus  pub  org.claytom.*.innovator.*
bus  pub  org.claytom.*.operator.*
bus  pub  org.claytom.*.command.sync
bus  pub  org.claytom.*.command.pause
bus  pub  org.claytom.*.command.resume
bus  pub  org.claytom.*.command.drain
bus  pub  org.claytom.*.command.replace
bus  pub  org.claytom.*.command.scale
bus  pub  org.claytom.*.command.config
bus  pub  org.claytom.*.command.report
bus  pub  org.claytom.*.command.broadcast
bus  pub  org.claytom.*.command.receipt
bus  pub  org.claytom.*.command.resend
bus  pub  org.claytom.corporate.*.*
bus  pub  !org.claytom.*.command.hello
bus  pub  !org.claytom.*.command.goodbye
bus  pub  !org.claytom.*.command.pull-manifest
bus  pub  !org.claytom.*.command.vote
bus  pub  $KV.CT_LEASES.>
bus  pub  $KV.CT_SEATS.>
bus  pub  $JS.API.>
bus  pub  $JS.ACK.>
bus  sub  org.claytom.*.command.hello
bus  sub  org.claytom.*.command.goodbye
bus  sub  org.claytom.*.command.pull-manifest
bus  sub  org.claytom.*.command.vote
bus  sub  $JS.EVENT.ADVISORY.>
bus  sub  _INBOX__bus_{n}.>

ingest  pub  $JS.API.CONSUMER.INFO.CT_KPI.*
ingest  pub  $JS.API.CONSUMER.INFO.CT_PRESENCE.*
ingest  pub  $JS.API.CONSUMER.RESET.CT_KPI.*
ingest  pub  $JS.API.CONSUMER.RESET.CT_PRESENCE.*
ingest  pub  $JS.API.CONSUMER.MSG.NEXT.CT_KPI.*
ingest  pub  $JS.API.CONSUMER.MSG.NEXT.CT_PRESENCE.*
ingest  pub  $JS.ACK.CT_KPI.*.>
ingest  pub  $JS.ACK.CT_PRESENCE.*.>
ingest  pub  $JS.ACK.*.*.CT_KPI.*.>
ingest  pub  $JS.ACK.*.*.CT_PRESENCE.*.>
ingest  pub  $JS.API.STREAM.INFO.KV_CT_LEASES
ingest  pub  $JS.API.STREAM.MSG.GET.KV_CT_LEASES
ingest  pub  org.claytom.*.command.receipt
ingest  pub  org.claytom.*.command.resend
ingest  sub  _INBOX__ingest_{n}.>

web  pub  $JS.API.INFO
web  pub  $JS.API.STREAM.LIST
web  pub  $JS.API.STREAM.INFO.*
web  pub  $JS.API.CONSUMER.LIST.*
web  pub  $JS.API.CONSUMER.INFO.*.*
web  sub  _INBOX__web_{n}.>

worker  pub  $JS.API.INFO
worker  pub  $JS.API.STREAM.LIST
worker  pub  $JS.API.STREAM.INFO.*
worker  pub  $JS.API.CONSUMER.LIST.*
worker  pub  $JS.API.CONSUMER.INFO.*.*
worker  sub  _INBOX__worker_{n}.>
"""

SUBSIDIARIES = (
    *("pricing", "sales", "marketing", "ecommerce", "customer-care", "accounting", "treasury", "tax", "finance"),
    *("payments", "credit", "insurance", "investments", "risk", "assurance", "procurement", "logistics"),
    *("inventory", "manufacturing", "maintenance", "energy", "real-estate", "sustainability", "mobility"),
    *("innovation", "software", "cloud", "cybersecurity", "data", "quality", "people", "academy", "legal"),
    *("compliance", "planning"),
)

ROLES = {
    "director": "di-0001-g1",
    "coordinator": "co-0002-g1",
    "specialist": "es-0012-g1",
    "innovator": "in-0022-g2",
    "operator": "op-0042-g3",
}
"""The roles, and an agent of each."""

_KINDS = (
    "kpi",
    "presence",
    "state",
    "result",
    "progress",
    "cost",
    "training",
    "mentoring",
    "escalation",
    "error",
    "x",
)
_VERBS = (
    *("sync", "pause", "resume", "drain", "replace", "scale", "config", "report", "broadcast"),
    *("receipt", "resend", "hello", "goodbye", "pull-manifest", "vote", "x"),
)
_STREAMS = (
    *("CT_KPI", "CT_PRESENCE", "CT_EVENTS", "CT_WORK", "CT_CONTROL", "CT_CORP", "CT_ADVISORIES"),
    *("KV_CT_LEASES", "KV_CT_SEATS"),
)
_STREAM_API = ("INFO", "CREATE", "UPDATE", "DELETE", "PURGE", "MSG.GET", "MSG.DELETE", "SNAPSHOT")
_QUEUE_API = ("INFO", "MSG.NEXT", "DELETE", "CREATE", "DURABLE.CREATE")


def of_unit(unit: str) -> list[str]:
    """Subjects of every family that belong to one unit, and of its part of JetStream."""
    root = f"org.claytom.{unit}"
    queues = [f"{unit}-{role}" for role in ROLES]
    return [
        *(f"{root}.{role}.{last}" for role, agent in ROLES.items() for last in ("any", "all", agent)),
        *(f"{root}.metrics.{kind}" for kind in _KINDS),
        *(f"{root}.command.{verb}" for verb in _VERBS),
        *(
            f"org.claytom.corporate.{topic}.{unit}"
            for topic in ("escalation", "directive", "quarantine", "council", "broadcast")
        ),
        f"$KV.CT_LEASES.{unit}.1",
        f"$KV.CT_LEASES.{unit}.a-op-0042-g3",
        f"$KV.CT_SEATS.{unit}.1",
        f"$JS.API.DIRECT.GET.KV_CT_LEASES.$KV.CT_LEASES.{unit}.1",
        f"$JS.API.DIRECT.GET.KV_CT_SEATS.$KV.CT_SEATS.{unit}.1",
        *(
            f"$JS.API.CONSUMER.{verb}.CT_WORK.{q}"
            for q in queues
            for verb in ("INFO", "MSG.NEXT", "DELETE", "CREATE")
        ),
        *(f"$JS.API.CONSUMER.DURABLE.CREATE.CT_WORK.{q}" for q in queues),
        *(f"$JS.ACK.CT_WORK.{q}.1.2.3.4.5" for q in queues),
        *(f"$JS.ACK._.hash.CT_WORK.{q}.1.2.3.4.5.x" for q in queues),
    ]


def of_nobody() -> list[str]:
    """Subjects that belong to no single unit: bodies, buckets, streams, consumers, the system, and no grammar."""
    return [
        *(f"org.claytom.corporate.{body}.{seat}" for body in ("c-suite", "founders") for seat in ("ceo", "chair")),
        "org.claytom",
        "org.claytom.pricing",
        "org.claytom.pricing.operator.op-0042-g3.more",
        "org.claytomx.pricing.metrics.kpi",
        "$KV.CT_LEASES.hosts.h1",
        "$KV.CT_SEATS.hosts.h1",
        "$JS.API.INFO",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.NAMES",
        *(f"$JS.API.STREAM.{verb}.{stream}" for stream in _STREAMS for verb in _STREAM_API),
        *(f"$JS.API.CONSUMER.CREATE.{stream}" for stream in _STREAMS),
        *(f"$JS.API.CONSUMER.CREATE.{stream}.mine.filter" for stream in _STREAMS),
        *(f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.mine" for stream in _STREAMS),
        *(f"$JS.API.CONSUMER.{verb}.{stream}.other" for stream in _STREAMS for verb in ("INFO", "DELETE", "RESET")),
        *(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.other" for stream in _STREAMS),
        *(f"$JS.ACK.{stream}.other.1.2.3.4.5" for stream in _STREAMS),
        *(f"$JS.API.DIRECT.GET.{stream}" for stream in _STREAMS),
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.CT_WORK.pricing-operator",
        "$SRV.PING",
        "free.for.all",
    ]
