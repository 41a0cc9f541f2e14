"""The size of the reserve, against sums of exact fractions and against what statistics tables say."""

from fractions import Fraction
from math import comb, exp, inf, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subsidiaries.replacement import reserve
from subsidiaries.replacement.reserve import Observed


def brute(seats: int, above: int, chance: Fraction) -> Fraction:
    """P(X > above) of a binomial, as an exact fraction."""
    return sum(
        (comb(seats, n) * chance**n * (1 - chance) ** (seats - n) for n in range(above + 1, seats + 1)),
        start=Fraction(0),
    )


CHANCES = st.fractions(Fraction(1, 10**6), Fraction(999, 1000), max_denominator=10**6)


@given(st.integers(1, 60), st.integers(-1, 61), CHANCES)
def test_the_tail_is_that_of_exact_fractions(seats: int, above: int, chance: Fraction) -> None:
    exact = brute(seats, above, chance)
    found = reserve.log_tail(seats=seats, above=above, chance=float(chance))
    if exact == 0:
        assert found == -inf
    else:
        assert exp(found) == pytest.approx(float(exact), rel=1e-9)


def test_the_tail_of_a_whole_subsidiary_is_exact_far_below_what_a_float_can_subtract() -> None:
    chance = Fraction(1, 50_000)
    for above in (0, 3, 10, 40):
        exact = brute(1500 + above, above, chance)
        found = reserve.log_tail(seats=1500 + above, above=above, chance=float(chance))
        assert found == pytest.approx(log(exact.numerator) - log(exact.denominator), rel=1e-10)


@pytest.mark.parametrize(("events", "limit"), [(0, 2.9957), (1, 4.7439), (5, 10.5130), (10, 16.9622), (50, 63.287)])
def test_the_limit_of_a_rate_is_that_of_the_tables(events: int, limit: float) -> None:
    assert reserve.poisson_limit(events) == pytest.approx(limit, abs=2e-3)


def test_the_limit_of_many_events_comes_near_their_number() -> None:
    assert reserve.poisson_limit(52_500) == pytest.approx(52_500 + 1.645 * 52_500**0.5, rel=1e-4)


@given(st.integers(1, 1500), st.floats(1e-9, 0.05))
def test_what_is_needed_is_enough_and_one_less_is_not(floor: int, unavailable: float) -> None:
    found = reserve.needed(floor=floor, unavailable=unavailable)
    assert reserve.probability_below(floor=floor, reserve=found, unavailable=unavailable) < reserve.TARGET
    if found:
        before = reserve.probability_below(floor=floor, reserve=found - 1, unavailable=unavailable)
        assert before >= reserve.TARGET


def test_without_history_the_priors_decide() -> None:
    found = reserve.estimate(Observed())
    assert found.rate * 30 * reserve.DAY_S == pytest.approx(1)
    assert found.downtime_s == 60
    assert found.rate < found.rate_limit < 2.2 * found.rate
    assert reserve.needed(floor=1500, unavailable=found.unavailable) == 4


def test_history_outweighs_the_priors() -> None:
    month = 1500 * 30 * reserve.DAY_S
    calm = reserve.estimate(Observed(failures=15, exposure_s=month, restores=15, downtime_s=15 * 8.0))
    assert calm.per_agent_and_30_days < 0.03
    assert calm.downtime_s < 30
    assert reserve.needed(floor=1500, unavailable=calm.unavailable) == 1
    bad = reserve.estimate(Observed(failures=45_000, exposure_s=month, restores=45_000, downtime_s=45_000 * 90.0))
    assert bad.downtime_s == pytest.approx(90, rel=1e-3)
    assert 9 < reserve.needed(floor=1500, unavailable=bad.unavailable) < 14


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="chance"):
        reserve.log_tail(seats=3, above=1, chance=1.5)
    with pytest.raises(ValueError, match="enough"):
        reserve.needed(floor=10, unavailable=1.0)
    assert reserve.needed(floor=0, unavailable=0.5) == 0
    assert [step.below for step in reserve.steps(floor=2, unavailable=0.5, upto=1)] == pytest.approx([0.75, 0.5])
