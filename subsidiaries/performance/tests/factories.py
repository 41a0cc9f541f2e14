"""Factories of KPI messages for tests."""

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from django.utils import timezone

from bus import leases
from bus.feeds import Raw
from claytom_agent.client import iso

KPIS = {
    "throughput_per_day": 40.25,
    "quality_score": 90.5,
    "sla_met_pct": 97.75,
    "innovation_landings_mo": 0.5,
    "training_hours_w": 3.25,
}
SUBJECT = "org.claytom.pricing.metrics.kpi"
BRIEF = {  # the standard JSON of the brief, with a real time
    "ts": "ISO",
    "subsidiary": "pricing",
    "role": "coordinator",
    "kpis": dict.fromkeys(KPIS, 0),
    "okrs": {"O1": "...", "KR1": 0, "KR2": 0},
}
_sequence = count(1)


def make_body(
    *, ts: datetime | str | None = None, kpis: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Return a valid body; times are of now unless given."""
    body = {"ts": ts if isinstance(ts, str) else iso(ts), "subsidiary": "pricing", "role": "operator", "okrs": {}}
    return {**body, "kpis": {**KPIS, **(kpis or {})}, **changes}


def make_headers(
    *, agent: str = "op-0031-g1", seq: str = "", unit: str = "pricing", role: str = "operator", **more: str
) -> dict[str, str]:
    """Return the headers that a host sends; without `Claytom-Seq` unless `seq` is given."""
    headers = {"ce-type": "org.claytom.kpi.sample.v1", "ce-source": f"org.claytom.{unit}.{role}.{agent}"}
    if seq:
        headers |= {"Claytom-Seq": seq, "Claytom-Epoch": seq.split(".")[-2]}
    return headers | {name.replace("_", "-"): value for name, value in more.items()}


def make_raw(
    body: bytes | dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    *,
    subject: str = SUBJECT,
    seq: int = 0,
) -> Raw:
    """Return a message as the ingest gets it: from `op-0031-g1` of pricing, unnumbered, unless told otherwise."""
    data = body if isinstance(body, bytes) else json.dumps(body or make_body()).encode()
    lines = "".join(
        f"{name}: {value}\r\n" for name, value in (make_headers() if headers is None else headers).items()
    )
    block = f"NATS/1.0\r\n{lines}\r\n".encode() if lines else b""
    number = seq or next(_sequence)
    return Raw(subject.encode(), block, data, number, "CT_KPI", number * 1000)


def give_lease(epoch: int, *, at: datetime | None = None, unit: str = "pricing", host: str = "host-a") -> None:
    """Let a host have been given the five divisions of a unit under that epoch, now unless told otherwise."""
    acquired = at or timezone.now()
    leases.note(leases=[leases.Lease(f"{unit}.{number}", epoch, host, acquired) for number in range(1, 6)])


def stored_at(raw: Raw) -> datetime:
    """Return when the stream stored a message."""
    return datetime.fromtimestamp(raw.stored_ns / 1e9, UTC)


def make_division(
    numbers: range, *, epoch: int = 7, ts: datetime | None = None, division: str = "pricing.1"
) -> list[Raw]:
    """Return numbered samples of a division, one each from its five operators in turn, a second apart."""
    start = (ts or timezone.now()).replace(microsecond=0) - timedelta(seconds=max(numbers, default=0) + 1)
    return [
        make_raw(
            make_body(ts=start + timedelta(seconds=n), kpis={"quality_score": 50 + n % 50}),
            make_headers(agent=f"op-{31 + n % 5:04d}-g1", seq=f"{division}.{epoch}.{n}"),
        )
        for n in numbers
    ]
