"""How the portal writes figures, times and states."""

from datetime import datetime, timedelta
from math import floor, log10
from typing import Any

from django import template
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from bus.models import DirectedMessage
from holding.lifecycle import SeatStage
from holding.models import Agent, BlueprintVersion, Seat
from portal.agents import address, agent_address, generation_address, seat_address
from portal.blueprints import ROLLOUT_KINDS, VERSION_KINDS
from portal.commands import COMMAND_KINDS, TARGET_KINDS
from portal.kpis import Cell
from portal.states import GLYPHS, STAGES, STATES, Look
from subsidiaries.commands.models import Command, Target
from subsidiaries.escalations.models import Escalation
from subsidiaries.replacement.models import Incident, Replacement
from subsidiaries.replacement.rollout_models import Rollout

register = template.Library()
NO_VALUE = "–"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@register.filter
def number(value: float | int | None, digits: int = 0) -> str:
    """Return a number in the language's form, with grouped thousands; a dash when there is none."""
    if value is None:
        return NO_VALUE
    return number_format(round(value, digits), decimal_pos=digits, use_l10n=True, force_grouping=True)


@register.filter
def percent(share: float | None, digits: int = 1) -> str:
    """Return a share (0 to 1) in per cent. Less than all is never rounded up to 100 %."""
    if share is None:
        return NO_VALUE
    value = round(share * 100, digits)
    if value >= 100 > share * 100:
        value = 100 - 10**-digits
    return f"{number(value, 0 if value == 100 else digits)} %"


@register.filter
def chance(value: float | None) -> str:
    """Return a probability: in per cent from a tenth of one on, `1.6 × 10⁻⁸` below that."""
    if value is None:
        return NO_VALUE
    if value >= 0.001 or value == 0:
        return percent(value)
    power = floor(log10(value))
    mantissa = round(value / 10**power, 1)
    if mantissa >= 10:
        mantissa, power = 1.0, power + 1
    return f"{number(mantissa, 1)} × 10{str(power).translate(SUPERSCRIPTS)}"


@register.filter
def signed(share: float | None) -> str:
    """Return a deviation in per cent with its sign: `+3.1 %`, `−0.4 %`."""
    if share is None:
        return ""
    value = round(share * 100, 1)
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    return f"{sign}{number(abs(value), 1)} %"


@register.simple_tag
def when(moment: datetime | None, form: str = "short") -> str | SafeString:
    """Return a `<time>` in the reader's time zone: `clock` 16:42:07; `short` adds the day unless it is today.
    `full` is in UTC, the same for everybody, since the live stream rewrites it."""
    if not moment:  # a template makes an empty text of what is not there
        return NO_VALUE
    utc = timezone.localtime(moment, timezone.get_default_timezone())
    shown = utc if form == "full" else timezone.localtime(moment)
    clock = shown.strftime("%H:%M:%S")
    day = shown.strftime("%Y-%m-%d") if form == "full" else date_format(shown, "j M")
    today = shown.date() == timezone.localtime().date()
    text = clock if form == "clock" or (form == "short" and today) else f"{day} {clock}"
    if form == "full":
        text += " UTC"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        utc.isoformat(timespec="seconds"),
        f"{utc:%Y-%m-%d %H:%M:%S} UTC",
        text,
    )


@register.filter
def seconds(span: timedelta | float | None) -> str:
    """Return a duration in its most telling unit: `0.8 s`, `42 s`, `3 min`, `5 h`, `2 d`."""
    if span is None:
        return NO_VALUE
    value = span.total_seconds() if isinstance(span, timedelta) else float(span)
    if value < 10:
        return f"{number(max(value, 0), 1)} s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if value >= size * 2:
            return f"{number(int(value / size))} {unit}"
    return f"{number(int(value))} s"


@register.simple_tag
def pill(kind: str, word: str) -> SafeString:
    """Return a status: glyph, word and colour together, so that none has to be told by colour alone."""
    return format_html(
        '<span class="pill {}"><span aria-hidden="true">{}</span> {}</span>', kind, GLYPHS[kind], word
    )


@register.simple_tag
def state(value: str) -> SafeString:
    """Return an agent's state as a pill."""
    look = STATES.get(value, Look("idle", _("unknown")))
    return pill(look.kind, str(look.word))


@register.simple_tag
def stage(value: str) -> SafeString:
    """Return where an agent stands as a pill."""
    look = STAGES.get(value, Look("idle", value))
    return pill(look.kind, str(look.word))


@register.simple_tag
def seat_stage(value: str) -> str:
    """Return in words whether a seat has a holder."""
    return str(SeatStage(value).label)


@register.simple_tag
def letter_state(letter: DirectedMessage) -> SafeString:
    """Return the state of a directed message as a pill."""
    kinds = {"open": "info", "accepted": "ok", "rejected": "warn", "expired": "crit"}
    return pill(kinds.get(letter.state, "idle"), letter.get_state_display())


@register.simple_tag
def escalation_state(row: Escalation) -> SafeString:
    """Return how an escalation stands as a pill."""
    kinds = {"raised": "crit", "taken": "warn", "resolved": "ok"}
    return pill(kinds.get(row.state, "idle"), row.get_state_display())


@register.simple_tag
def incident_state(incident: Incident) -> SafeString:
    """Return how an incident stands as a pill."""
    if incident.closed_at is not None:
        return pill("ok", _("over"))
    if incident.brakes:
        return pill("crit", _("brakes"))
    return pill("warn", _("acknowledged")) if incident.acknowledged_at else pill("crit", _("open"))


@register.simple_tag
def command_state(command: Command) -> SafeString:
    """Return how a command stands as a pill."""
    return pill(COMMAND_KINDS.get(command.state, "idle"), command.get_state_display())


@register.simple_tag
def version_state(version: BlueprintVersion) -> SafeString:
    """Return how a blueprint version stands as a pill: halted, where it is approved and halted."""
    if version.state == BlueprintVersion.State.APPROVED and version.halted_at:
        return pill("crit", _("halted"))
    return pill(VERSION_KINDS.get(version.state, "idle"), version.get_state_display())


@register.simple_tag
def rollout_state(rollout: Rollout) -> SafeString:
    """Return how a rollout stands as a pill."""
    return pill(ROLLOUT_KINDS.get(rollout.state, "idle"), rollout.get_state_display())


@register.simple_tag
def target_state(value: str) -> SafeString:
    """Return what became of a command in a division as a pill."""
    return pill(TARGET_KINDS.get(value, "idle"), str(Target.State(value).label))


@register.simple_tag
def severity(row: Escalation) -> SafeString:
    """Return how urgent an escalation is as a pill."""
    return pill(("crit", "crit", "warn", "info")[row.severity], row.get_severity_display())


@register.simple_tag
def heat(cell: Cell, label: Any = "") -> SafeString:
    """Return a table cell of the heat table: value, glyph, deviation."""
    if cell.value is None:
        return format_html('<td class="heat heat-none" data-label="{}">{}</td>', label, NO_VALUE)
    return format_html(
        '<td class="heat heat-{}" data-label="{}"><span>{} <span class="delta">'
        '<span aria-hidden="true">{}</span> {}</span></span></td>',
        cell.step,
        label,
        number(cell.value, cell.kpi.digits),
        cell.glyph,
        signed(cell.deviation),
    )


@register.inclusion_tag("portal/parts/meter.html")
def meter(value: int, total: int, kind: str = "ok", mark: int = 0) -> dict[str, Any]:
    """Draw `value` of `total` as a bar, with an optional mark (the floor)."""
    full = max(total, 1)
    return {
        "kind": kind,
        "width": round(100 * min(value, full) / full, 2),
        "mark": round(100 * min(mark, full) / full, 2) if mark else None,
    }


@register.simple_tag
def span(start: datetime | None, end: datetime | None) -> str:
    """Return the time between two instants."""
    return seconds(end - start) if start and end else NO_VALUE


@register.simple_tag
def agent_url(agent: Agent) -> str:
    """Return the page of an agent."""
    return address(agent)


@register.simple_tag
def agent_act(route: str, agent: Agent) -> str:
    """Return the address of an act about an agent."""
    seat = agent.seat
    return agent_address(
        seat.unit.slug, seat.code, agent.generation, seat.body.slug if seat.body else None, route=route
    )


@register.simple_tag
def seat_url(seat: Seat) -> str:
    """Return the page of the agent that holds a seat."""
    return seat_address(seat)


@register.simple_tag
def replaced_url(replacement: Replacement, generation: int) -> str:
    """Return the page of the agent that a replacement put in place, or of the one before it."""
    return generation_address(replacement.seat, generation)
