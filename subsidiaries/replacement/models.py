"""What is observed of seats, and what ARP decided about them."""

from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models
from django.db.models import Case, F, Q, Sum, Value, When
from django.utils.translation import gettext_lazy as _

from holding.models import Agent, Division, Seat, Unit
from holding.scope import ScopedManager
from iam.access.names import shown_who
from iam.authority.models import Approval
from subsidiaries.replacement import planning, rollout_models  # noqa: F401 - Django finds their tables from here
from subsidiaries.replacement.control import (
    DoubleHolder,
    FloorBreach,
    IncidentStep,
    SeatBackoff,
    ServiceLevel,
    VersionStanding,
)

__all__ = [
    "LIVE_STATES", "STALE_AFTER", "Allowance", "Census", "DivisionState", "DoubleHolder", "FencedHost",
    "FloorBreach", "Incident", "IncidentStep", "Monitor", "Replacement", "SeatBackoff", "SeatState", "ServiceLevel",
    "StaffingRule", "Successor", "UnitFloor", "VersionStanding",
]  # fmt: skip

LIVE_STATES = ("idle", "busy", "paused")
STALE_AFTER = timedelta(seconds=15)  # three presence intervals (agents.md, ARP cooperation)


class DivisionState(models.Model):
    """What is known of a division: which host runs it, under which epoch, when it was last heard of."""

    UNIT: ClassVar[str] = "division__unit_id"

    division = models.OneToOneField(
        Division, verbose_name=_("division"), primary_key=True, on_delete=models.CASCADE, related_name="state"
    )
    host = models.CharField(_("host"), max_length=100, blank=True)
    epoch = models.BigIntegerField(_("epoch"), default=0)
    seen_at = models.DateTimeField(_("last heard of"), null=True)
    full_at = models.DateTimeField(_("last full report"), null=True)
    reported_at = models.DateTimeField(_("time of the last report"), null=True)
    observed_generation = models.PositiveIntegerField(_("observed manifest"), default=0)
    taken_up_at = models.DateTimeField(_("newest manifest taken up"), null=True)
    report_asked_at = models.DateTimeField(_("full report asked for"), null=True)
    running = models.PositiveIntegerField(_("agents that may run"), default=0)  # all but paused and failed ones
    paused = models.PositiveIntegerField(_("paused agents"), default=0)
    refused_generation = models.PositiveIntegerField(_("manifest that the host refuses"), null=True)
    refusal = models.CharField(_("why"), max_length=500, blank=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("division's state")
        verbose_name_plural = _("divisions' states")

    def __str__(self) -> str:
        return f"{self.division_id} {self.host}"


class SeatState(models.Model):
    """The last observed state of the agent on a seat. A narrow, hot table: updated in place."""

    UNIT: ClassVar[str] = "unit_id"

    class State(models.TextChoices):
        UNKNOWN = "unknown", _("unknown")
        STARTING = "starting", _("starting")
        IDLE = "idle", _("idle")
        BUSY = "busy", _("busy")
        PAUSED = "paused", _("paused")
        STUCK = "stuck", _("stuck")
        RESTARTING = "restarting", _("restarting")
        FAILED = "failed", _("failed")
        RETIRED = "retired", _("retired")

    seat = models.OneToOneField(Seat, verbose_name=_("seat"), primary_key=True, on_delete=models.CASCADE)
    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.CASCADE)
    division = models.ForeignKey(Division, verbose_name=_("division"), on_delete=models.CASCADE)
    role = models.CharField(_("role or body"), max_length=24)
    generation = models.PositiveIntegerField(_("generation"), default=0)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.UNKNOWN)
    since = models.DateTimeField(_("since"), null=True)
    done = models.BigIntegerField(_("tasks done"), default=0)
    missed = models.PositiveSmallIntegerField(_("full reports without it"), default=0)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("seat's state")
        verbose_name_plural = _("seats' states")
        indexes = [
            models.Index(fields=["division"], name="seat_state_amiss", condition=~Q(state__in=LIVE_STATES)),
            models.Index(fields=["since"], name="seat_state_failed", condition=Q(state="failed")),
        ]

    def __str__(self) -> str:
        return f"{self.seat_id} {self.state}"


class CensusQuerySet(models.QuerySet["Census"]):
    """Reads of the census. A division that has fallen silent counts as no live agents: unknown is never live."""

    def heard(self, now: datetime) -> "CensusQuerySet":
        """Annotate each cell with `heard_live`: its live agents if its division was heard of lately, else 0."""
        return self.annotate(
            heard_live=Case(
                When(division__state__seen_at__gte=now - STALE_AFTER, then=F("live")),
                default=Value(0),
                output_field=models.IntegerField(),
            )
        )

    def by_unit(self, now: datetime) -> dict[int, tuple[int, int]]:
        """Return (seats, live) of each unit, by its id."""
        rows = self.heard(now).values_list("unit_id").annotate(Sum("seats"), Sum("heard_live")).order_by()
        return {unit: (seats, live) for unit, seats, live in rows}

    def by_role(self, unit_id: int, now: datetime) -> dict[str, tuple[int, int]]:
        """Return (seats, live) of each role (or body) of a unit, by its slug."""
        rows = (
            self.filter(unit_id=unit_id)
            .heard(now)
            .values_list("role")
            .annotate(Sum("seats"), Sum("heard_live"))
            .order_by()
        )
        return {role: (seats, live) for role, seats, live in rows}


class Census(models.Model):
    """Live agents per division and role (or body): counters kept by the ingest, checked against the rows."""

    UNIT: ClassVar[str] = "unit_id"

    division = models.ForeignKey(Division, verbose_name=_("division"), on_delete=models.CASCADE)
    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.CASCADE)
    role = models.CharField(_("role or body"), max_length=24)
    seats = models.PositiveIntegerField(_("seats"))
    live = models.PositiveIntegerField(_("live"), default=0)

    objects = ScopedManager.from_queryset(CensusQuerySet)()

    class Meta:
        verbose_name = _("census")
        verbose_name_plural = _("census")
        constraints = [
            models.UniqueConstraint(fields=["division", "role"], name="census_cell"),
            models.CheckConstraint(condition=Q(live__lte=F("seats")), name="census_live_at_most_seats"),
        ]
        indexes = [models.Index(fields=["unit", "role"], name="census_unit")]

    def __str__(self) -> str:
        return f"{self.division_id} {self.role} {self.live}/{self.seats}"


class UnitFloor(models.Model):
    """The floor as a service level: since when a unit is below it, and for how long it has been in all."""

    UNIT: ClassVar[str] = "unit_id"

    unit = models.OneToOneField(
        Unit, verbose_name=_("unit"), primary_key=True, on_delete=models.CASCADE, related_name="floor_state"
    )
    reached_at = models.DateTimeField(_("first reached"), null=True)  # before that, it is being staffed
    below_since = models.DateTimeField(_("below since"), null=True)
    seconds_below = models.FloatField(_("seconds below the floor"), default=0)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("floor of a unit")
        verbose_name_plural = _("floors of units")

    def __str__(self) -> str:
        return f"{self.unit_id} {self.seconds_below} s"


class Monitor(models.Model):
    """Since when presence has been received without a break: before that, silence says nothing about agents."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    since = models.DateTimeField(_("since"))
    last_at = models.DateTimeField(_("last presence"))

    class Meta:
        verbose_name = _("monitor")
        verbose_name_plural = _("monitor")
        constraints = [models.CheckConstraint(condition=Q(id=1), name="monitor_is_one")]

    def __str__(self) -> str:
        return str(self.last_at)


class StaffingRule(models.Model):
    """The limits within which ARP acts by itself: one row, which a resolution may change."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    missing_per_cycle = models.PositiveIntegerField(
        _("missing agents replaced per unit and cycle, at most"), default=75
    )
    missing_per_cycle_slow = models.PositiveIntegerField(_("the same while slowed down"), default=15)
    slow_above = models.FloatField(_("slow down above this silent share"), default=0.20)
    stop_above = models.FloatField(_("stop above this silent share"), default=0.55)
    relocation_s = models.PositiveIntegerField(_("seconds a division may look for a host"), default=30)
    daily_cap = models.FloatField(
        _("replacements per unit and day, at most"), default=2.0, help_text=_("As a multiple of the unit's floor.")
    )
    probation_s = models.PositiveIntegerField(
        _("seconds of clean service that end a probation"),
        default=86_400,
        db_default=86_400,
        help_text=_("Of business time. A loss, and a suspension, begin them anew."),
    )
    expectation_s = models.PositiveIntegerField(
        _("seconds within which a new agent is expected live"), default=60, db_default=60
    )
    backoff_base_s = models.PositiveIntegerField(
        _("seconds before a seat is replaced again"),
        default=10,
        db_default=10,
        help_text=_("Doubled with each replacement in a row, up to the ceiling."),
    )
    backoff_ceiling_s = models.PositiveIntegerField(_("the ceiling (s)"), default=300, db_default=300)
    stable_s = models.PositiveIntegerField(
        _("seconds of service after which an agent has lasted"), default=600, db_default=600
    )
    quality_share = models.FloatField(
        _("replaced for quality per unit and day, at most"),
        default=0.05,
        db_default=0.05,
        help_text=_("As a share of the unit's floor."),
    )
    unit_cost = models.DecimalField(
        _("cost of one replacement (EUR)"),
        max_digits=12,
        decimal_places=4,
        default=0,
        db_default=0,
        help_text=_("As the house accounts for it; 0 while nobody has set it."),
    )

    class Meta:
        verbose_name = _("staffing rule")
        verbose_name_plural = _("staffing rules")
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="staffing_rule_is_one"),
            models.CheckConstraint(
                condition=Q(slow_above__gt=0, slow_above__lte=F("stop_above"), stop_above__lte=1),
                name="staffing_rule_brakes",
            ),
            models.CheckConstraint(
                condition=Q(backoff_base_s__lte=F("backoff_ceiling_s"), quality_share__gte=0, quality_share__lte=1),
                name="staffing_rule_backoff",
            ),
        ]

    def __str__(self) -> str:
        return str(_("staffing rule"))


class Allowance(models.Model):
    """Replacements of a unit that people allowed beyond the cap of a business day, by an approval."""

    UNIT: ClassVar[str] = "unit_id"

    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    day = models.DateField(_("day"))
    extra = models.PositiveIntegerField(_("replacements beyond the cap"))
    approval = models.OneToOneField(
        Approval, verbose_name=_("approval"), on_delete=models.PROTECT, related_name="+"
    )

    objects = ScopedManager()

    class Meta:
        verbose_name = _("allowance beyond the cap")
        verbose_name_plural = _("allowances beyond the cap")
        constraints = [models.CheckConstraint(condition=Q(extra__gte=1), name="allowance_of_some")]
        indexes = [models.Index(fields=["unit", "day"], name="allowance_of_day")]

    def __str__(self) -> str:
        return f"{self.unit_id} {self.day} +{self.extra}"


class Replacement(models.Model):
    """A seat got its next generation. Unique per (seat, generation): deciding twice is one replacement."""

    UNIT: ClassVar[str] = "unit_id"

    class Reason(models.TextChoices):
        FAILED = "failed", _("reported failed")
        MISSING = "missing", _("missing from its host")
        NOT_LIVE = "not-live", _("did not become live")
        QUALITY = "quality", _("below its service level in spite of retraining")
        MANUAL = "manual", _("ordered by a person")
        QUARANTINE = "quarantine", _("isolated by a person")
        PROMOTION = "promotion", _("promoted to a higher seat")
        ROLLOUT = "rollout", _("another blueprint version is rolled out")
        REVOKED = "revoked", _("its blueprint version was revoked")
        PLANNED = "planned", _("planned retirement")

    ON_PURPOSE: ClassVar = (Reason.PROMOTION, Reason.ROLLOUT, Reason.REVOKED, Reason.PLANNED)
    """Whose agent before did not fail: no loss, and no strike against seat or version."""

    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    seat = models.ForeignKey(Seat, verbose_name=_("seat"), on_delete=models.PROTECT, related_name="replacements")
    generation = models.PositiveIntegerField(_("new generation"))
    old_agent = models.ForeignKey(
        Agent, verbose_name=_("old agent"), on_delete=models.PROTECT, related_name="replaced_by"
    )
    new_agent = models.OneToOneField(
        Agent, verbose_name=_("new agent"), on_delete=models.PROTECT, related_name="replacement"
    )
    promoted_from = models.ForeignKey(
        Agent,
        verbose_name=_("promoted agent"),
        null=True,
        on_delete=models.PROTECT,
        related_name="promoted_to",
        db_index=False,
        help_text=_("Who held a lower seat until then and holds this one now; empty: a new agent."),
    )
    reason = models.CharField(_("reason"), max_length=10, choices=Reason)
    detail = models.CharField(_("detail"), max_length=200, blank=True)
    detected_at = models.DateTimeField(_("detected at"))
    decided_at = models.DateTimeField(_("decided at"))
    told_at = models.DateTimeField(_("taken up by the host at"), null=True)
    live_at = models.DateTimeField(_("live at"), null=True)
    failed_at = models.DateTimeField(_("did not last: replaced again at"), null=True)
    actor = models.CharField(_("decided by"), max_length=200, blank=True)
    # Who told of the loss, and of the new agent: a host under the epoch that its lease had then.
    host = models.CharField(_("reported by host"), max_length=100, blank=True)
    epoch = models.BigIntegerField(_("under epoch"), null=True)
    live_host = models.CharField(_("live on host"), max_length=100, blank=True, db_default="")
    live_epoch = models.BigIntegerField(_("live under epoch"), null=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("replacement")
        verbose_name_plural = _("replacements")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["seat", "generation"], name="replacement_once"),
            models.UniqueConstraint(
                fields=["promoted_from"],
                condition=Q(promoted_from__isnull=False),
                name="replacement_promoted_once",
            ),
        ]
        indexes = [
            models.Index(fields=["unit", "-id"], name="replacement_unit"),
            models.Index(fields=["seat", "generation"], name="replacement_pending", condition=Q(live_at=None)),
            models.Index(fields=["decided_at"], name="replacement_decided"),
            models.Index(fields=["unit", "decided_at"], name="replacement_unit_decided"),
            models.Index(fields=["failed_at"], name="replacement_failed", condition=Q(failed_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.seat_id} g{self.generation}"

    @property
    def decider(self) -> str:
        """Who decided it, as whoever asks may see."""
        return shown_who(self.actor, self.unit_id)


class Successor(models.Model):
    """Whose holder takes a seat of a director or coordinator that falls vacant: the first in rank who is fit."""

    UNIT: ClassVar[str] = "unit_id"

    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    seat = models.ForeignKey(Seat, verbose_name=_("seat"), on_delete=models.CASCADE, related_name="successors")
    successor = models.ForeignKey(
        Seat, verbose_name=_("successor's seat"), on_delete=models.CASCADE, related_name="succeeds"
    )
    rank = models.PositiveSmallIntegerField(_("rank"))
    ordered_by = models.CharField(
        _("ordered by"), max_length=200, blank=True, help_text=_("Empty: as ARP ranks them.")
    )
    ranked_at = models.DateTimeField(_("ranked at"))

    objects = ScopedManager()

    class Meta:
        verbose_name = _("successor")
        verbose_name_plural = _("successors")
        ordering = ["seat", "rank"]
        constraints = [
            models.UniqueConstraint(
                fields=["seat", "rank"], name="successor_rank", deferrable=models.Deferrable.DEFERRED
            ),
            models.UniqueConstraint(fields=["seat", "successor"], name="successor_once"),
            models.CheckConstraint(condition=~Q(seat=F("successor")), name="successor_is_another"),
        ]

    def __str__(self) -> str:
        return f"{self.seat_id} {self.rank}: {self.successor_id}"


class Incident(models.Model):
    """Something that ARP does not mend alone: at most one open per unit and kind."""

    UNIT: ClassVar[str] = "unit_id"

    class Kind(models.TextChoices):
        BELOW_FLOOR = "below-floor", _("below the floor")
        SILENCE = "silence", _("agents fell silent: replacement slowed down")
        MASS_SILENCE = "mass-silence", _("most agents fell silent: replacement stopped")
        CAPACITY = "capacity", _("no host takes the division")
        CAP = "cap", _("daily cap of replacements reached")
        EXTERNAL = "external", _("external agents are silent")
        STALLED = "stalled", _("a host does not take up its new agents")
        CRASH_LOOP = "crash-loop", _("new agents of a blueprint version do not last")
        DUPLICATE = "duplicate", _("two live agents of one seat")

    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    kind = models.CharField(_("kind"), max_length=14, choices=Kind)
    opened_at = models.DateTimeField(_("opened at"))
    closed_at = models.DateTimeField(_("closed at"), null=True)
    deficit = models.PositiveIntegerField(_("largest deficit"), default=0)
    detail = models.CharField(_("detail"), max_length=200, blank=True)
    acknowledged_at = models.DateTimeField(_("acknowledged at"), null=True)
    acknowledged_by = models.CharField(_("acknowledged by"), max_length=200, blank=True)
    released_at = models.DateTimeField(_("brake released at"), null=True)
    released_by = models.CharField(_("brake released by"), max_length=200, blank=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["unit", "kind"], condition=Q(closed_at=None), name="incident_one_open"),
            models.CheckConstraint(
                condition=Q(closed_at=None) | Q(closed_at__gte=F("opened_at")), name="incident_closes_after"
            ),
        ]
        indexes = [models.Index(fields=["unit", "-opened_at"], name="incident_unit")]

    def __str__(self) -> str:
        return f"{self.kind} {self.unit_id}"

    @property
    def brakes(self) -> bool:
        """Whether it holds replacement back now."""
        holding_back = self.kind in (self.Kind.SILENCE, self.Kind.MASS_SILENCE)
        return holding_back and self.closed_at is None and self.released_at is None

    @property
    def acknowledger(self) -> str:
        """Who acknowledged it, as whoever asks may see."""
        return shown_who(self.acknowledged_by, self.unit_id)

    @property
    def releaser(self) -> str:
        """Who released the brake, as whoever asks may see."""
        return shown_who(self.released_by, self.unit_id)


class FencedHost(models.Model):
    """A host that acted for a division without holding it: returned after it lost its lease, or never had one."""

    UNIT: ClassVar[str] = "division__unit_id"

    class Standing(models.TextChoices):
        SUPERSEDED = "superseded", _("lost its lease")
        UNKNOWN = "unknown", _("never had this lease")
        IMPOSTOR = "impostor", _("uses the lease of another host")

    division = models.ForeignKey(Division, verbose_name=_("division"), on_delete=models.CASCADE, related_name="+")
    epoch = models.BigIntegerField(_("epoch"))
    host = models.CharField(_("host"), max_length=100, blank=True)
    standing = models.CharField(_("reason"), max_length=12, choices=Standing)
    current_epoch = models.BigIntegerField(_("epoch in force"), default=0)
    current_host = models.CharField(_("host in charge"), max_length=100, blank=True)
    first_at = models.DateTimeField(_("first seen"))
    last_at = models.DateTimeField(_("last seen"))
    messages = models.PositiveBigIntegerField(_("messages"), default=0)
    sent = models.JSONField(_("messages by type"), default=dict)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("fenced host")
        verbose_name_plural = _("fenced hosts")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["division", "epoch", "host", "standing"], name="fenced_host_once"),
        ]
        indexes = [models.Index(fields=["-last_at"], name="fenced_host_last")]

    def __str__(self) -> str:
        return f"{self.division_id} {self.epoch} {self.host}"
