"""A holding with two subsidiaries, the portal's own matrix in force, and people in its offices."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from holding.models import Unit
from holding.tests.factories import make_holding
from iam.access.models import User
from iam.authority import matrix, services
from iam.authority.models import Appointment, Approval, Decision, ExchangeRate, Office

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)  # matrix and appointments hold from here on
T0 = datetime(2026, 3, 2, 9, tzinfo=UTC)  # when tests ask for something
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
YES, NO = Decision.Verdict.APPROVE, Decision.Verdict.REJECT

CAST = {
    "dora": ("subsidiary-director", "pricing"),
    "dani": ("subsidiary-director", "pricing"),
    "toni": ("subsidiary-director", "tax"),
    "paula": ("subsidiary-ceo", "pricing"),
    "tomas": ("subsidiary-ceo", "tax"),
    "carla": ("group-cfo", ""),
    "cris": ("group-cro", ""),
    "caio": ("group-caio", ""),
    "gema": ("group-ceo", ""),
    **{f"audit{n}": ("audit-committee", "") for n in range(1, 4)},
    **{f"risk{n}": ("risk-ai-committee", "") for n in range(1, 4)},
    **{f"board{n}": ("board", "") for n in range(1, 6)},
    **{f"owner{n}": ("general-meeting", "") for n in range(1, 4)},
}
WITHOUT_OFFICE = ("rita", "sara", "omar")


_data: dict[str, Any] = {}


def make_authority() -> None:
    """Load pricing and tax, put the portal's matrix in force, and appoint the cast."""
    make_holding(subsidiaries=("pricing", "tax"))
    if not _data:
        _data.update(matrix.read_matrix())
    services.install_matrix(data=_data, actor="test", at=EPOCH)
    people = User.objects.bulk_create(
        [User(username=name, password="!", cleared=True) for name in (*CAST, *WITHOUT_OFFICE)]
    )
    known = {person.username: person for person in people}
    seats = {office.slug: office for office in Office.objects.all()}
    units = {unit.slug: unit for unit in Unit.objects.all()}
    Appointment.objects.bulk_create(
        [
            Appointment(
                office=seats[office], person=known[name], unit=units.get(unit), valid_from=EPOCH, recorded_by="test"
            )
            for name, (office, unit) in CAST.items()
        ]
    )


def make_rate(currency: str = "USD", rate: str = "0.8", *, on: date | None = None) -> ExchangeRate:
    """Record a rate, of the day on which tests ask unless told otherwise."""
    return services.record_rate(
        currency=currency,
        rate=Decimal(rate),
        on=on or T0.date(),
        source="Bank",
        actor="test",
        confirmed=True,
    )


def make_appointment(
    name: str, office: str, unit: str = "", *, start: datetime = EPOCH, end: datetime | None = None
) -> Appointment:
    """Appoint somebody."""
    return services.appoint_to_office(
        office=office,
        person=who(name),
        unit=unit_of(unit) if unit else None,
        valid_from=start,
        valid_to=end,
        actor="test",
    )


def make_account(name: str, owner: str, *, kind: User.Kind = User.Kind.SERVICE) -> User:
    """Create the account of a service or an agent, for which somebody answers."""
    return User.objects.create(username=name, password="!", kind=kind, owner=who(owner), cleared=True)


def who(name: str) -> User:
    """Return a person of the cast."""
    return User.objects.get(username=name)


def unit_of(slug: str) -> Unit:
    """Return a unit."""
    return Unit.objects.get(slug=slug)


def office_of(name: str) -> Appointment:
    """Return the appointment of a person of the cast."""
    return Appointment.objects.get(person__username=name)


def ask(
    value: object = 40_000,
    *,
    matter: str = "opex-budgeted",
    unit: str = "pricing",
    by: str = "rita",
    at: datetime = T0,
    key: str = "",
    parties: tuple[str, ...] = (),
    **fields: Any,
) -> Approval:
    """Ask for an approval; by default what a director of pricing may decide."""
    request = services.Request(
        matter=matter,
        unit=unit_of(unit),
        value=Decimal(str(value)),
        title="Something",
        key=key or f"key-{Approval.objects.count()}",
        requester=who(by) if by else None,
        parties=[who(name) for name in parties],
        **fields,
    )
    return services.request_approval(request=request, at=at)


def decide(
    approval: Approval,
    name: str,
    verdict: Decision.Verdict = YES,
    *,
    at: datetime = T0 + HOUR,
    acting_for: str = "",
) -> str:
    """Let somebody decide; return the state of the approval after it."""
    return services.decide(
        approval=approval,
        person=who(name),
        verdict=verdict,
        note="no" if verdict == NO else "",
        acting_for=who(acting_for) if acting_for else None,
        at=at,
    ).state


def offices(approval: Approval) -> list[str]:
    """Return the offices that may decide, as they came to it."""
    return list(approval.levels.order_by("pk").values_list("office__slug", flat=True))
