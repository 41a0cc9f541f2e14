"""What agents claim of themselves: raw samples, the last one of each seat, sums per minute."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, NamedTuple

from django.db import models
from django.db.models import F, Q, QuerySet, Sum
from django.utils.translation import gettext_lazy as _

from claytom_agent.subjects import MAX_ORDINAL
from holding.models import Unit
from holding.scope import ScopedManager

KPIS = (
    "throughput_per_day",
    "quality_score",
    "sla_met_pct",
    "innovation_landings_mo",
    "training_hours_w",
)
INTERVAL = timedelta(seconds=60)  # between two samples of an agent (organisation.md 14)


class KpiSample(models.Model):
    """One claim of one agent, as it came. The table is partitioned by hours of `ts`, and expires by them.

    Written by COPY only. Its columns have no constraints: what is copied has been validated. `seq` stands
    as the key for Django; the watermark and the sample keys are what keep it single.
    """

    UNIT: ClassVar[str] = "unit_id"

    seq = models.BigIntegerField(_("sequence in the stream"), primary_key=True)
    ts = models.DateTimeField(_("time"))
    received_at = models.DateTimeField(_("received at"))
    unit = models.ForeignKey(
        Unit,
        verbose_name=_("unit"),
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    role = models.TextField(_("role or body"))
    ordinal = models.IntegerField(_("ordinal"), null=True)  # null: unattributed
    generation = models.IntegerField(_("generation"), null=True)
    throughput_per_day = models.FloatField(_("throughput per day"))
    quality_score = models.FloatField(_("quality score"))
    sla_met_pct = models.FloatField(_("SLA met (%)"))
    innovation_landings_mo = models.FloatField(_("innovation landings per month"))
    training_hours_w = models.FloatField(_("training hours per week"))
    okrs = models.JSONField(_("OKRs"), null=True)
    epoch = models.BigIntegerField(_("epoch"), null=True)
    stale = models.BooleanField(_("of a fenced epoch"), default=False)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("KPI sample")
        verbose_name_plural = _("KPI samples")

    def __str__(self) -> str:
        return f"{self.role} {self.ordinal} {self.ts}"


class KpiLatestQuerySet(models.QuerySet["KpiLatest"]):
    """Reads of last values."""

    def for_unit(self, unit_id: int) -> "KpiLatestQuerySet":
        """Return the last values of a unit's seats, by ordinal; a range of the primary key."""
        first = KpiLatest.key(unit_id, 0)
        return self.filter(id__gte=first, id__lte=first + MAX_ORDINAL).order_by("id")

    def for_seats(self, seats: Sequence[tuple[int, int]]) -> dict[tuple[int, int], "KpiLatest"]:
        """Return the last values of seats given as (unit id, ordinal); a seat never heard of is absent."""
        rows = self.filter(id__in=[KpiLatest.key(*seat) for seat in seats])
        return {(row.unit_id, row.ordinal): row for row in rows}

    def coverage(self, now: datetime, interval: timedelta = INTERVAL) -> dict[int, float]:
        """Return by unit the share (0-1) of seats with a sample in the last two intervals before `now`.

        Reads 36 rows that the ingest counts every few seconds. When the ingest stops, they stay as they
        are and the share falls with `now`: unknown is never drawn green. A unit without seats is absent.
        """
        since = (now - 2 * interval).timestamp()
        return {
            row.unit_id: min(1.0, row.heard_since(since) / row.seats)
            for row in KpiCoverage.objects.all()
            if row.seats
        }


class KpiLatest(models.Model):
    """The last claim of each seat, by `ts`: derived from samples, at most seconds behind them."""

    UNIT: ClassVar[str] = "unit_id"

    id = models.BigIntegerField(primary_key=True)
    unit = models.ForeignKey(
        Unit, verbose_name=_("unit"), on_delete=models.CASCADE, db_index=False, related_name="+"
    )
    ordinal = models.IntegerField(_("ordinal"))
    role = models.CharField(_("role or body"), max_length=24)
    generation = models.IntegerField(_("generation"), null=True)
    ts = models.DateTimeField(_("time"))
    throughput_per_day = models.FloatField(_("throughput per day"))
    quality_score = models.FloatField(_("quality score"))
    sla_met_pct = models.FloatField(_("SLA met (%)"))
    innovation_landings_mo = models.FloatField(_("innovation landings per month"))
    training_hours_w = models.FloatField(_("training hours per week"))

    objects = ScopedManager.from_queryset(KpiLatestQuerySet)()

    class Meta:
        verbose_name = _("last KPI of a seat")
        verbose_name_plural = _("last KPIs of seats")
        constraints = [
            models.CheckConstraint(
                condition=Q(id=F("unit_id") * (MAX_ORDINAL + 1) + F("ordinal")), name="kpi_latest_key"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.unit_id}/{self.ordinal} {self.ts}"

    @staticmethod
    def key(unit_id: int, ordinal: int) -> int:
        """Return the primary key of a seat's row: units lie apart, each one's seats together."""
        return unit_id * (MAX_ORDINAL + 1) + ordinal


class Means(NamedTuple):
    """The five KPIs of a group: how many samples, and their means (sums over sums)."""

    n: int
    throughput_per_day: float
    quality_score: float
    sla_met_pct: float
    innovation_landings_mo: float
    training_hours_w: float


class KpiMinuteQuerySet(models.QuerySet["KpiMinute"]):
    """Reads of the minute sums: what pages show. Means weigh each sample the same."""

    def for_overview(self, since: datetime) -> dict[int, Means]:
        """Return by unit the means of the minutes from `since` on."""
        rows = self.filter(minute__gte=since).values_list("unit_id").annotate(*_sums()).order_by()
        return {unit: _means(*sums) for unit, *sums in rows}

    def for_roles(self, unit_id: int, since: datetime) -> dict[str, Means]:
        """Return by role (or body) the means of a unit's minutes from `since` on."""
        rows = self.filter(unit_id=unit_id, minute__gte=since).values_list("role").annotate(*_sums()).order_by()
        return {role: _means(*sums) for role, *sums in rows}

    def for_unit(self, unit_id: int, since: datetime) -> dict[str, list[tuple[datetime, Means]]]:
        """Return by role (or body) the series of a unit's minutes from `since` on, oldest first."""
        series: dict[str, list[tuple[datetime, Means]]] = {}
        columns = (f"sum_{kpi}" for kpi in KPIS)
        rows = self.filter(unit_id=unit_id, minute__gte=since).order_by("minute")
        for minute, role, *sums in rows.values_list("minute", "role", "n", *columns):
            series.setdefault(role, []).append((minute, _means(*sums)))
        return series

    def series(self, unit_id: int, since: datetime) -> list[tuple[datetime, Means]]:
        """Return the series of a unit's minutes from `since` on over all roles, oldest first."""
        rows: QuerySet[KpiMinute, Any] = self.filter(unit_id=unit_id, minute__gte=since)
        sums = rows.values_list("minute").annotate(*_sums()).order_by("minute")
        return [(minute, _means(*values)) for minute, *values in sums]


def _sums() -> list[Sum]:
    return [Sum("n"), *(Sum(f"sum_{kpi}") for kpi in KPIS)]


def _means(n: int, *sums: float) -> Means:
    return Means(n, *(total / n for total in sums))


class KpiMinute(models.Model):
    """The samples of one minute (of `ts`), unit and role added up, in the transaction of the samples."""

    UNIT: ClassVar[str] = "unit_id"

    id = models.BigAutoField(primary_key=True)
    minute = models.DateTimeField(_("minute"))
    unit = models.ForeignKey(
        Unit, verbose_name=_("unit"), on_delete=models.CASCADE, db_index=False, related_name="+"
    )
    role = models.CharField(_("role or body"), max_length=24)
    n = models.PositiveIntegerField(_("samples"))
    sum_throughput_per_day = models.FloatField(_("sum of throughput per day"))
    sum_quality_score = models.FloatField(_("sum of quality scores"))
    sum_sla_met_pct = models.FloatField(_("sum of SLA met (%)"))
    sum_innovation_landings_mo = models.FloatField(_("sum of innovation landings per month"))
    sum_training_hours_w = models.FloatField(_("sum of training hours per week"))

    objects = ScopedManager.from_queryset(KpiMinuteQuerySet)()

    class Meta:
        verbose_name = _("KPIs of a minute")
        verbose_name_plural = _("KPIs by minute")
        constraints = [
            models.UniqueConstraint(fields=["minute", "unit", "role"], name="kpi_minute_cell"),
            models.CheckConstraint(condition=Q(n__gt=0), name="kpi_minute_not_empty"),
        ]
        indexes = [models.Index(fields=["unit", "minute"], name="kpi_minute_of_unit")]

    def __str__(self) -> str:
        return f"{self.minute} {self.unit_id} {self.role}"


class KpiCoverage(models.Model):
    """How many seats of a unit were last heard of when: counted every few seconds from the last values."""

    UNIT: ClassVar[str] = "unit_id"

    unit = models.OneToOneField(
        Unit, verbose_name=_("unit"), primary_key=True, on_delete=models.CASCADE, related_name="+"
    )
    seats = models.PositiveIntegerField(_("seats"))
    buckets = models.JSONField(_("seats by the time of their last sample"))  # {"<second of the epoch>": seats}
    as_of = models.DateTimeField(_("as of"))

    objects = ScopedManager()

    class Meta:
        verbose_name = _("KPI coverage")
        verbose_name_plural = _("KPI coverage")

    def __str__(self) -> str:
        return f"{self.unit_id} {self.as_of}"

    def heard_since(self, since: float) -> int:
        """Return the seats whose last sample is not older than `since` (seconds of the epoch)."""
        return sum(seats for second, seats in self.buckets.items() if int(second) >= since)


class SampleKey(models.Model):
    """A sample without `Claytom-Seq` that was handled: the same again is a duplicate (see `marks.py`)."""

    key = models.UUIDField(primary_key=True)
    at = models.DateTimeField(_("at"))

    class Meta:
        verbose_name = _("key of a sample")
        verbose_name_plural = _("keys of samples")
        indexes = [models.Index(fields=["at"], name="sample_key_at")]

    def __str__(self) -> str:
        return str(self.key)
