"""The lowest office whose limit covers the value decides: each limit of the matrix, at it and just above it."""

from decimal import Decimal

import pytest

from iam.authority.models import Approval, Matter
from iam.authority.services import NoAuthorityError
from iam.authority.tests.factories import ask, decide, make_authority, make_rate, offices

pytestmark = pytest.mark.django_db
CENT = Decimal("0.01")
NOBODY = "nobody"

# matter: (limit, office) from the lowest on; None is without limit.
LIMITS: dict[str, list[tuple[Decimal | None, str]]] = {
    "opex-budgeted": [
        (Decimal(1_000), "agent-envelope"),
        (Decimal(50_000), "subsidiary-director"),
        (Decimal(500_000), "subsidiary-ceo"),
        (Decimal(2_000_000), "group-cfo"),
        (Decimal(10_000_000), "group-ceo"),
        (None, "board"),
    ],
    "opex-unbudgeted": [
        (Decimal(10_000), "subsidiary-director"),
        (Decimal(100_000), "subsidiary-ceo"),
        (Decimal(500_000), "group-cfo"),
        (Decimal(2_000_000), "group-ceo"),
        (Decimal(5_000_000), "audit-committee"),
        (None, "board"),
    ],
    "capex": [
        (Decimal(25_000), "subsidiary-director"),
        (Decimal(250_000), "subsidiary-ceo"),
        (Decimal(2_000_000), "group-cfo"),
        (Decimal(10_000_000), "group-ceo"),
        (None, "board"),
    ],
    "essential-assets": [(Decimal(25), "board"), (None, "general-meeting")],
    "payment-release": [
        (Decimal(1_000), "agent-envelope"),
        (Decimal(50_000), "subsidiary-director"),
        (Decimal(500_000), "subsidiary-ceo"),
        (Decimal(5_000_000), "group-cfo"),
        (Decimal(25_000_000), "group-ceo"),
        (None, "board"),
    ],
    "price-change": [
        (Decimal(2), "agent-envelope"),
        (Decimal(5), "subsidiary-director"),
        (Decimal(10), "subsidiary-ceo"),
        (Decimal(20), "group-cfo"),
        (None, "group-ceo"),
    ],
    "intragroup": [(Decimal(250_000), "subsidiary-ceo"), (Decimal(2_000_000), "group-cfo"), (None, "board")],
    "autonomy-level": [
        (Decimal(2), "subsidiary-ceo"),
        (Decimal(3), "group-caio"),
        (Decimal(4), "group-ceo"),
        (Decimal(5), "risk-ai-committee"),
        (None, "board"),
    ],
    "model-release": [(Decimal(1), "subsidiary-director"), (Decimal(2), "group-caio")],
    "blueprint-version": [(Decimal(1), "subsidiary-director"), (Decimal(2), "group-caio")],
    "litigation": [
        (Decimal(10_000), "subsidiary-director"),
        (Decimal(100_000), "subsidiary-ceo"),
        (Decimal(1_000_000), "group-cfo"),
        (Decimal(5_000_000), "group-ceo"),
        (None, "board"),
    ],
    "arp-daily-cap": [
        (Decimal(150), "subsidiary-director"),
        (Decimal(750), "subsidiary-ceo"),
        (Decimal(3_000), "group-caio"),
        (None, "group-ceo"),
    ],
    "staffing-plan": [
        (Decimal(10), "agent-envelope"),
        (Decimal(50), "subsidiary-director"),
        (Decimal(150), "subsidiary-ceo"),
        (Decimal(1_500), "group-caio"),
        (None, "group-ceo"),
    ],
    "chaos": [(Decimal(1), "subsidiary-director"), (Decimal(2), "subsidiary-ceo"), (None, "group-cro")],
    "data-export": [
        (Decimal(1_000), "agent-envelope"),
        (Decimal(50_000), "subsidiary-director"),
        (Decimal(1_000_000), "subsidiary-ceo"),
        (None, "group-cro"),
    ],
    "break-glass": [(Decimal(1), "group-cro"), (None, "group-ceo")],
    **{
        matter: [(None, "board")]
        for matter in (
            "merger", "guarantee", "disposal", "policy", "budget", "remuneration-policy", "authority-matrix",
        )
    },
}  # fmt: skip


def boundaries() -> list[tuple[str, Decimal, str]]:
    rows = []
    for matter, limits in LIMITS.items():
        rows.append((matter, Decimal(0), limits[0][1]))
        for place, (limit, office) in enumerate(limits):
            if limit is None:
                rows.append((matter, Decimal(999_999_999), office))
                continue
            above = limits[place + 1][1] if place + 1 < len(limits) else NOBODY
            rows += [(matter, limit, office), (matter, limit + CENT, above)]
    return rows


def test_every_matter_is_in_the_table() -> None:
    make_authority()
    assert set(LIMITS) == set(Matter.objects.values_list("slug", flat=True))
    assert len(boundaries()) > 100


@pytest.mark.parametrize("matter", LIMITS)
def test_the_lowest_office_that_covers_the_value_decides(matter: str) -> None:
    make_authority()
    for name, value, office in boundaries():
        if name != matter:
            continue
        # Each has a counterparty of its own, so that no value is added to another.
        if office == NOBODY:
            with pytest.raises(NoAuthorityError):
                ask(value, matter=matter, counterparty=f"Company {value}")
            continue
        approval = ask(value, matter=matter, counterparty=f"Company {value}")
        assert offices(approval)[0] == office, (matter, value)
        assert approval.by_rule == (office == "agent-envelope"), (matter, value)


@pytest.mark.parametrize("value", ["-5", "5"])
def test_of_a_percentage_the_size_counts_and_not_the_sign(value: str) -> None:
    make_authority()
    assert offices(ask(value, matter="price-change")) == ["subsidiary-director"]


@pytest.mark.parametrize("value", ["-1", "NaN", "Infinity", "1e16"])
def test_a_value_that_is_none_is_refused(value: str) -> None:
    make_authority()
    with pytest.raises(ValueError, match=r"value|valor"):
        ask(value)


@pytest.mark.parametrize(
    ("value", "currency", "rate", "office"),
    [
        (50_000, "USD", "1.0", "subsidiary-director"),
        (50_000, "USD", "1.00001", "subsidiary-ceo"),
        (60_000, "USD", "0.8", "subsidiary-director"),
        (7_000_000, "JPY", "0.006", "subsidiary-director"),
    ],
)
def test_another_currency_is_judged_in_euros_at_the_rate_of_the_register(
    value: int, currency: str, rate: str, office: str
) -> None:
    make_authority()
    make_rate(currency, rate)
    approval = ask(value, currency=currency)
    assert offices(approval) == [office]
    approval.refresh_from_db()
    assert (approval.currency, approval.fx_rate, approval.judged) == (
        currency,
        Decimal(rate),
        (value * Decimal(rate)).quantize(Decimal("0.0001")),
    )


def test_within_the_envelope_nobody_is_asked_and_it_says_so() -> None:
    make_authority()
    approval = ask(1_000, by="")
    assert (approval.state, approval.by_rule) == (Approval.State.APPROVED, True)
    assert approval.version.number == 1
    assert not approval.decisions.exists()


@pytest.mark.parametrize("matter", [name for name, limits in LIMITS.items() if limits == [(None, "board")]])
def test_reserved_matters_need_the_majority_of_the_board(matter: str) -> None:
    make_authority()
    assert Matter.objects.get(slug=matter).reserved
    approval = ask(0, matter=matter)
    level = approval.levels.get()
    assert (level.majority, level.required, len(level.eligible)) == (True, 3, 5)
    assert [decide(approval, f"board{n}") for n in (1, 2, 3)] == ["pending", "pending", "approved"]


def test_a_value_that_is_too_large_in_euros_is_refused() -> None:
    make_authority()
    make_rate(rate="9000000")
    with pytest.raises(ValueError, match="too large"):
        ask(9 * 10**15, currency="USD")
    assert not Approval.objects.exists()
