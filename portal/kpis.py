"""The five KPIs of the standard: names, how a value is shown, and how far it lies from the holding's mean."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from subsidiaries.performance.models import Means

NOW = timedelta(minutes=5)  # what a KPI "now" is the mean of: several samples of every agent
# Relative deviation from the mean at which a cell takes the next colour, and the glyph that repeats it.
STEPS = (-0.10, -0.05, -0.01, 0.01, 0.05, 0.10)
GLYPHS = ("▼▼", "▼", "▽", "◆", "△", "▲", "▲▲")


@dataclass(frozen=True, slots=True)
class Kpi:
    """One of the five: its field in the standard JSON, names, decimals and unit. More is always better."""

    field: str
    name: str | Promise
    short: str | Promise
    digits: int
    unit: str = ""


KPIS = (
    Kpi("throughput_per_day", _("Throughput per day"), _("Throughput/d"), 1),
    Kpi("quality_score", _("Quality score"), _("Quality"), 1),
    Kpi("sla_met_pct", _("SLA met"), _("SLA"), 1, "%"),
    Kpi("innovation_landings_mo", _("Innovations per month"), _("Innovation/mo"), 2),
    Kpi("training_hours_w", _("Training hours per week"), _("Training h/wk"), 1, "h"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A KPI of a unit as the heat table shows it: value, deviation from the mean, step 1 to 7 (0: no value)."""

    kpi: Kpi
    value: float | None
    deviation: float | None
    step: int

    @property
    def glyph(self) -> str:
        """The glyph that repeats the colour."""
        return GLYPHS[self.step - 1] if self.step else "○"


def step(deviation: float) -> int:
    """Return the heat step, 1 (far below the mean) to 7 (far above), of a relative deviation."""
    return 1 + sum(deviation >= limit for limit in STEPS)


def holding_means(units: Iterable[Means]) -> Means | None:
    """Return the means of the whole from those of its units, each weighted by its number of samples."""
    rows = [unit for unit in units if unit.n]
    total = sum(row.n for row in rows)
    if not total:
        return None
    return Means(total, *(sum(getattr(row, kpi.field) * row.n for row in rows) / total for kpi in KPIS))


def cells(means: Means | None, against: Means | None) -> list[Cell]:
    """Return the five cells of a unit, compared with the means `against`."""
    return [
        _cell(kpi, means and getattr(means, kpi.field), against and getattr(against, kpi.field)) for kpi in KPIS
    ]


def _cell(kpi: Kpi, value: float | None, against: float | None) -> Cell:
    if value is None:
        return Cell(kpi, None, None, 0)
    if not against:  # no mean, or a mean of zero: nothing to compare with
        return Cell(kpi, value, None, 4)
    deviation = value / against - 1
    return Cell(kpi, value, deviation, step(deviation))


@dataclass(frozen=True, slots=True)
class Spark:
    """A sparkline in a box of 120 x 28: the polyline's points, the last point, the lowest and highest value."""

    points: str
    last: tuple[float, float]
    low: float
    high: float


def spark(values: Sequence[float | None]) -> Spark | None:
    """Return the sparkline of evenly spaced values (None: no sample), or None with fewer than two values."""
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return None
    low, high = min(value for _place, value in known), max(value for _place, value in known)
    width, span = max(len(values) - 1, 1), (high - low) or 1.0
    points = [
        (round(2 + 114 * place / width, 1), round(25 - 22 * (value - low) / span, 1)) for place, value in known
    ]
    return Spark(" ".join(f"{x},{y}" for x, y in points), points[-1], low, high)
