"""What happened: replacements, incidents and acts of the ledger, newest first, in words."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, Count, Max, Q, When
from django.db.models.functions import Coalesce, TruncMinute
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from audit.models import LedgerEntry
from holding import scope
from holding.models import Unit
from portal.agents import agent_address
from portal.states import GLYPHS
from subsidiaries.replacement.models import Incident, Replacement

Units = Mapping[int, Unit]
Source = Callable[[int, datetime | None, Units], Iterator["Event"]]
KINDS = ("replacements", "incidents", "ledger")
WINDOW = 5000  # replacements looked at for one page of the feed
# The ledger has an entry for each seat of a load or a replacement; the feed tells of these as one event. And one
# for each sign-in, which people read on the page of their sessions.
DETAIL_ACTIONS = ("unit.staff", "seat.appoint", "session.begin", "session.end")
ACTS: dict[str, str | Promise] = {
    "holding.load": gettext_lazy("Holding file loaded"),
    "person.create": gettext_lazy("Person created"),
    "person.credentials": gettext_lazy("Credentials of a person changed"),
    "session.lock-out": gettext_lazy("Name locked after failed sign-ins"),
    "token.issue": gettext_lazy("API token issued"),
    "token.revoke": gettext_lazy("API token revoked"),
    "account.create": gettext_lazy("Account of a service or an agent created"),
    "account.deactivate": gettext_lazy("Account of a service or an agent deactivated"),
    "binding.grant": gettext_lazy("Role granted"),
    "binding.revoke": gettext_lazy("Role revoked"),
    "role.define": gettext_lazy("Role of access defined"),
    "role.change": gettext_lazy("Role of access changed"),
    "group.map": gettext_lazy("Group of the identity provider given a role"),
    "group.unmap": gettext_lazy("Role of a group of the identity provider taken away"),
    "emergency.request": gettext_lazy("Emergency access asked for"),
    "emergency.approve": gettext_lazy("Emergency access approved"),
    "emergency.refuse": gettext_lazy("Emergency access refused"),
    "emergency.end": gettext_lazy("Emergency access ended"),
    "review.open": gettext_lazy("Access review opened"),
    "review.decide": gettext_lazy("Binding reviewed"),
    "review.close": gettext_lazy("Access review closed"),
    "quarantine.replay": gettext_lazy("Refused message sent again"),
    "quarantine.discard": gettext_lazy("Refused message discarded"),
    "quarantine.expire": gettext_lazy("Refused messages expired"),
    "source.suspect": gettext_lazy("Source marked suspect"),
    "source.clear": gettext_lazy("Source no longer suspect"),
}


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the feed: when, how urgent, whose, what, and where to read more."""

    at: datetime
    kind: str
    unit: Unit | None
    text: str
    url: str
    detail: str = ""

    @property
    def glyph(self) -> str:
        """The glyph of the event's kind."""
        return GLYPHS[self.kind]


@dataclass(frozen=True, slots=True)
class Feed:
    """A page of events, and the time before which the next page begins (None: there is none)."""

    events: list[Event]
    older: datetime | None


def feed(*, limit: int, before: datetime | None = None, kind: str = "", units: Units | None = None) -> Feed:
    """Return up to `limit` events (a few more when several share the last instant), newest first.

    `kind` is one of `KINDS`, or empty for all. Four queries whatever the age of the page, three when the caller
    has the `units` by id already.
    """
    units = Unit.objects.in_bulk() if units is None else units
    sources: dict[str, Source] = {"replacements": _replacements, "incidents": _incidents, "ledger": _ledger}
    if not scope.current().has("ledger.view"):
        sources["ledger"] = _nothing
    chosen = [sources[kind]] if kind else list(sources.values())
    found = sorted(
        (event for source in chosen for event in source(limit, before, units)), key=lambda e: e.at, reverse=True
    )
    if len(found) <= limit:
        return Feed(found, None)
    last = found[limit - 1].at
    events = [event for event in found if event.at >= last]
    return Feed(events, last if len(events) < len(found) else None)


def _replacements(limit: int, before: datetime | None, units: Units) -> Iterator[Event]:
    """One event per unit, reason and minute: 1,500 replacements at once are one line, not 1,500."""
    newest = Replacement.objects.order_by("-decided_at")
    if before:
        # An event stands at the start of its minute, so a minute is on one page as a whole.
        newest = newest.filter(decided_at__lt=_next_minute(before))
    window = newest.values("pk")[:WINDOW]
    groups = (
        Replacement.objects.filter(pk__in=window)
        .order_by()
        .annotate(minute=TruncMinute("decided_at"))
        .values("minute", "unit_id", "reason")
        .annotate(
            count=Count("pk"),
            waiting=Count("pk", filter=Q(live_at=None)),
            code=Max("seat__code"),
            body=Max("seat__body__slug"),
            newest=Max("generation"),
        )
        .order_by("-minute", "unit_id")
    )
    rows = list(groups[: limit + 1])
    if sum(row["count"] for row in rows) >= WINDOW and len({row["minute"] for row in rows}) > 1:
        rows = [row for row in rows if row["minute"] != rows[-1]["minute"]]  # may be cut by the window
    for row in rows:
        yield _replacement(row, units[row["unit_id"]])


def _replacement(row: Mapping[str, Any], unit: Unit) -> Event:
    count, waiting = row["count"], row["waiting"]
    reason = str(Replacement.Reason(row["reason"]).label)
    if count == 1:
        text = _("%(seat)s replaced: %(reason)s") % {"seat": row["code"], "reason": reason}
        url = agent_address(unit.slug, row["code"], row["newest"], row["body"])
    else:
        sentence = ngettext("%(count)d replacement: %(reason)s", "%(count)d replacements: %(reason)s", count)
        text = sentence % {"count": count, "reason": reason}
        url = f"{reverse('replacements')}?unit={unit.slug}"
    detail = ngettext("%(count)d not live yet", "%(count)d not live yet", waiting) % {"count": waiting}
    return Event(row["minute"], "warn" if waiting else "info", unit, text, url, detail if waiting else "")


def _next_minute(moment: datetime) -> datetime:
    floor = moment.replace(second=0, microsecond=0)
    return floor if floor == moment else floor + timedelta(minutes=1)


def _incidents(limit: int, before: datetime | None, _units: Units) -> Iterator[Event]:
    """Each incident twice: when it was opened and when it was closed."""
    incidents = Incident.objects.select_related("unit")
    newest: Case | Coalesce = Coalesce("closed_at", "opened_at")
    if before:
        incidents = incidents.filter(opened_at__lt=before)
        newest = Case(When(closed_at__lt=before, then="closed_at"), default="opened_at")
    for incident in incidents.order_by(newest.desc())[: limit + 1]:
        kind = {"kind": incident.get_kind_display()}
        yield _incident(incident, incident.opened_at, "crit", _("Incident: %(kind)s") % kind)
        if incident.closed_at and (before is None or incident.closed_at < before):
            yield _incident(incident, incident.closed_at, "ok", _("Incident closed: %(kind)s") % kind)


def _incident(incident: Incident, at: datetime, kind: str, text: str) -> Event:
    detail = incident.detail or (_("deficit %(count)d") % {"count": incident.deficit} if incident.deficit else "")
    return Event(at, kind, incident.unit, text, reverse("incident", args=[incident.pk]), detail)


def _ledger(limit: int, before: datetime | None, _units: Units) -> Iterator[Event]:
    entries = LedgerEntry.objects.exclude(action__in=DETAIL_ACTIONS).order_by("-id").defer("body")
    if before:
        entries = entries.filter(at__lt=before)
    for entry in entries[: limit + 1]:
        yield Event(
            at=entry.at,
            kind="idle",
            unit=None,
            text=str(ACTS.get(entry.action, entry.action)),
            url=ledger_address(entry.object),
            detail=_("by %(actor)s") % {"actor": entry.actor},
        )


def _nothing(limit: int, before: datetime | None, _units: Units) -> Iterator[Event]:
    """Yield no event, to those who may not read the ledger."""
    del limit, before
    return iter(())


def ledger_address(object_: str) -> str:
    """Return the page of a ledger entry's object, or an empty string when it has none."""
    kind, _slash, rest = object_.partition("/")
    if kind == "unit" and rest:
        return reverse("unit", args=[rest])
    if kind == "quarantine" and rest.isdigit():
        return reverse("quarantined", args=[int(rest)])
    return reverse("quarantine") if kind == "suspect" else ""
