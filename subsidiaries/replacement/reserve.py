"""How many reserve seats a unit needs, from how often its agents fail and how long a seat then stands empty.

The chance that one seat is not live at an instant is `p = 1 - exp(-rate * downtime)`: of failures that come one by
one at `rate`, each with a downtime of that mean, the number that is open at an instant is Poisson with mean
`rate * downtime` whatever the distribution of downtimes (Palm's theorem: C. Palm, "Analysis of the Erlang Traffic
Formula for Busy-Signal Arrangements", Ericsson Technics 4, 1938; the M/G/infinity queue). A seat is replaced once,
so more than one open failure of a seat is one seat down. Of `floor + reserve` seats the number down is then
Binomial(floor + reserve, p), and the unit is below its floor when more than `reserve` are:

    P(below) = P(X > reserve),  X ~ Binomial(floor + reserve, p)

The rate that counts is the upper limit of the exact Poisson confidence interval (F. Garwood, "Fiducial Limits for
the Poisson Distribution", Biometrika 28, 1936) at 95 %, on what was observed together with a stated prior. So
little history asks for more seats and never for fewer. The downtime is the mean of what was observed and its prior.

What is not in it: failures that come together. A host that dies takes whole divisions along; they are relocated and
not replaced, and no reserve of this size covers 300 agents at once.
"""

from dataclasses import dataclass
from math import exp, expm1, inf, lgamma, log, log1p, sqrt
from typing import Final

DAY_S: Final = 86_400.0
TARGET: Final = 1e-6
"""The chance of being below the floor at an instant that a reserve must stay under."""
CONFIDENCE: Final = 0.95
PRIOR_FAILURES: Final = 5
PRIOR_EXPOSURE_S: Final = 150 * DAY_S
"""Five failures in 150 agent-days: a mean life of 30 days, worth a tenth of a day of one full subsidiary."""
PRIOR_RESTORES: Final = 10
PRIOR_DOWNTIME_S: Final = 60.0
"""Ten restores of a minute each: what the service level of the floor allows."""
NEGLIGIBLE: Final = 1e-18


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of a unit: failures of agents in so many agent-seconds, and how long seats then stood empty.

    `restores` seats were empty for `downtime_s` together; one that is empty still counts with its time so far.
    """

    failures: int = 0
    exposure_s: float = 0.0
    restores: int = 0
    downtime_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """The rates that follow: failures per agent and second (mean, and the limit that counts), seconds of downtime,
    and the chance that a seat is not live."""

    rate: float
    rate_limit: float
    downtime_s: float
    unavailable: float

    @property
    def per_agent_and_30_days(self) -> float:
        """Failures per agent in 30 days, by the rate that counts."""
        return self.rate_limit * 30 * DAY_S


@dataclass(frozen=True, slots=True)
class Step:
    """A number of reserve seats and the chance of being below the floor with it."""

    reserve: int
    below: float


def estimate(observed: Observed) -> Estimate:
    """Return the rates that follow from what was observed and from the priors."""
    failures = observed.failures + PRIOR_FAILURES
    exposure = observed.exposure_s + PRIOR_EXPOSURE_S
    limit = poisson_limit(failures) / exposure
    downtime = (observed.downtime_s + PRIOR_RESTORES * PRIOR_DOWNTIME_S) / (observed.restores + PRIOR_RESTORES)
    return Estimate(failures / exposure, limit, downtime, -expm1(-limit * downtime))


def poisson_limit(events: int, confidence: float = CONFIDENCE) -> float:
    """Return the mean at which so few events, or fewer, would have a chance of `1 - confidence` (Garwood)."""
    low, high = float(events), events + 10.0 * sqrt(events + 1) + 10.0
    for _ in range(80):
        middle = (low + high) / 2
        if _poisson_at_most(events, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _poisson_at_most(events: int, mean: float) -> float:
    """Return P(Poisson(mean) <= events) for a mean of at least `events`: the terms fall from the last one down."""
    term = exp(events * log(mean) - mean - lgamma(events + 1)) if mean > 0 else 1.0
    total = 0.0
    for number in range(events, -1, -1):
        total += term
        if term <= total * NEGLIGIBLE:
            break
        term *= number / mean
    return total


def probability_below(*, floor: int, reserve: int, unavailable: float) -> float:
    """Return the chance that more than `reserve` of `floor + reserve` seats are not live at an instant."""
    return exp(log_tail(seats=floor + reserve, above=reserve, chance=unavailable))


def log_tail(*, seats: int, above: int, chance: float) -> float:
    """Return log P(X > above) of X ~ Binomial(seats, chance), exactly; -inf for what cannot be.

    The sum is of terms relative to the largest one, so that chances of 1e-300 and less keep all their digits.
    Raises ValueError for a chance outside of 0 to 1.
    """
    if not 0 <= chance <= 1:
        raise ValueError(f"{chance} is no chance.")
    if above < 0:
        return 0.0
    if above >= seats or chance == 0:
        return -inf
    if chance == 1:
        return 0.0
    mode = min(max(above + 1, int((seats + 1) * chance)), seats)
    odds = chance / (1 - chance)
    total = term = 1.0
    for number in range(mode, seats):
        term *= (seats - number) / (number + 1) * odds
        total += term
        if term < total * NEGLIGIBLE:
            break
    term = 1.0
    for number in range(mode, above + 1, -1):
        term *= number / (seats - number + 1) / odds
        total += term
        if term < total * NEGLIGIBLE:
            break
    peak = lgamma(seats + 1) - lgamma(mode + 1) - lgamma(seats - mode + 1)
    return min(0.0, peak + mode * log(chance) + (seats - mode) * log1p(-chance) + log(total))


def needed(*, floor: int, unavailable: float, target: float = TARGET) -> int:
    """Return the smallest reserve whose chance of being below the floor is less than `target`.

    Raises ValueError for a target that no reserve reaches: not above 0, or agents that are never live.
    """
    if target <= 0 or unavailable >= 1:
        raise ValueError("No reserve is enough for that.")
    if floor == 0:
        return 0
    high = 1
    while probability_below(floor=floor, reserve=high, unavailable=unavailable) >= target:
        high *= 2
    low = -1  # a reserve that is too small; the chance falls with every seat
    while high - low > 1:
        middle = (low + high) // 2
        if middle >= 0 and probability_below(floor=floor, reserve=middle, unavailable=unavailable) < target:
            high = middle
        else:
            low = middle
    return high


def steps(*, floor: int, unavailable: float, upto: int) -> list[Step]:
    """Return the chance of being below the floor with 0, 1, 2 ... `upto` reserve seats."""
    return [
        Step(reserve, probability_below(floor=floor, reserve=reserve, unavailable=unavailable))
        for reserve in range(upto + 1)
    ]
