"""The KPI sample, the brief's standard JSON: its struct, and what a schema cannot check.

Strict, because a misspelt measure would be lost silently; in all other bodies unknown fields are ignored, so
that a newer sender can talk to an older receiver.
"""

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from claytom_agent.messages.scalars import Aware, Percent, Positive, Slug
from claytom_agent.subjects import CODE_ROLES, CORPORATE, ROLE_CODES, SLUG_PATTERN, is_slug

MAX_KPI_BYTES: Final = 16 * 1024
KPI_MAX_AGE: Final = timedelta(hours=24)
KPI_MAX_AHEAD: Final = timedelta(minutes=2)

OkrKey = Annotated[str, Meta(pattern=r"^(O[1-9][0-9]?|(O[1-9][0-9]?\.)?KR[1-9][0-9]?)\Z")]
OkrText = Annotated[str, Meta(max_length=200)]


class Kpis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The five measures of the brief. Units: items a day, 0-100, percent, landings a month, hours a week."""

    throughput_per_day: Positive
    quality_score: Percent
    sla_met_pct: Percent
    innovation_landings_mo: Positive
    training_hours_w: Annotated[float, Meta(ge=0, le=168)]


class KpiSample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The brief's standard JSON, unchanged. It is a claim of the agent, not a measurement."""

    ts: Aware
    subsidiary: Slug
    role: Slug
    kpis: Kpis
    okrs: dict[OkrKey, OkrText | float]


decode_kpi: Final = msgspec.json.Decoder(KpiSample).decode
"""Decode and type-check one KPI sample; the hot path of the ingest. Raises as `coding.decode` does."""

_KPI_SOURCE = re.compile(
    rf"org\.claytom\.(?P<unit>{SLUG_PATTERN})\.(?P<role>{SLUG_PATTERN})\."
    rf"(?P<id>(?P<code>di|co|es|in|op)-[0-9]{{4,7}}-g[1-9][0-9]{{0,5}}|{SLUG_PATTERN})"
)


def validate_kpi(  # noqa: PLR0911 - each refusal has its own word
    subject_tokens: Sequence[str], source: str | None, body: KpiSample, now: datetime
) -> str | None:
    """Check what the schema of a KPI sample cannot; return a reason code, or None if the sample is good.

    `subject_tokens` is the subject split at its dots, `source` the header `ce-source` or None (a sample
    without it is good and unattributed), `now` an aware time. Codes: `subject`, `subsidiary-mismatch`,
    `role-unknown`, `ts-future`, `ts-old`, `not-finite`, `okr-type`, `source-malformed`, `source-mismatch`.
    """
    if len(subject_tokens) != 5 or subject_tokens[3] != "metrics" or subject_tokens[4] != "kpi":
        return "subject"
    unit = body.subsidiary
    if subject_tokens[2] != unit:
        return "subsidiary-mismatch"
    if (body.role in ROLE_CODES) is (unit == CORPORATE):
        return "role-unknown"
    age = now - body.ts
    if age > KPI_MAX_AGE:
        return "ts-old"
    if -age > KPI_MAX_AHEAD:
        return "ts-future"
    kpis = body.kpis
    if not math.isfinite(
        kpis.throughput_per_day
        + kpis.quality_score
        + kpis.sla_met_pct
        + kpis.innovation_landings_mo
        + kpis.training_hours_w
    ):
        return "not-finite"
    for key, value in body.okrs.items():
        if ("KR" in key) is isinstance(value, str):
            return "okr-type"
        if not isinstance(value, str) and not math.isfinite(value):
            return "not-finite"
    return None if source is None else _source_reason(source, body)


def _source_reason(source: str, body: KpiSample) -> str | None:
    match = _KPI_SOURCE.fullmatch(source)
    if match is None:
        return "source-malformed"
    code = match["code"]
    if body.subsidiary == CORPORATE:
        if not is_slug(match["id"]):
            return "source-malformed"
    elif code is None or CODE_ROLES[code] != match["role"]:
        return "source-malformed"
    if match["unit"] != body.subsidiary or match["role"] != body.role:
        return "source-mismatch"
    return None
