"""Rollouts of blueprint versions: what is ordered, how far each unit is, and what became of each seat."""

from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from holding.models import Blueprint, BlueprintVersion, Seat, Unit
from holding.scope import ScopedManager

REASON_LENGTH = 500


class RolloutQuerySet(models.QuerySet["Rollout"]):
    """Reads of rollouts."""

    def for_listing(self) -> "RolloutQuerySet":
        """Return rollouts with what a list shows of them."""
        return self.select_related("unit", "version__blueprint", "blueprint")

    def going(self) -> "RolloutQuerySet":
        """Return the rollouts that are at work, or wait for a person."""
        return self.filter(state__in=Rollout.GOING)


class Rollout(models.Model):
    """Bringing the agents of a role (or body) in a unit, or everywhere, to an approved version of its blueprint.

    One about everywhere belongs to the parent company (`everywhere` tells it from one about its own bodies).
    """

    UNIT: ClassVar[str] = "unit_id"

    class State(models.TextChoices):
        CANARY = "canary", _("canary begins")
        OBSERVING = "observing", _("canary is observed")
        ROLLING = "rolling", _("rolling out")
        PAUSED = "paused", _("paused")
        RETURNING = "returning", _("rolling back")
        DONE = "done", _("done")
        RETURNED = "returned", _("rolled back")
        ABORTED = "aborted", _("aborted")

    FORWARD: ClassVar[tuple[str, ...]] = (State.CANARY.value, State.OBSERVING.value, State.ROLLING.value)
    GOING: ClassVar[tuple[str, ...]] = (*FORWARD, State.PAUSED.value, State.RETURNING.value)

    blueprint = models.ForeignKey(Blueprint, verbose_name=_("blueprint"), on_delete=models.PROTECT)
    version = models.ForeignKey(
        BlueprintVersion, verbose_name=_("version"), on_delete=models.PROTECT, related_name="rollouts"
    )
    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    everywhere = models.BooleanField(_("everywhere"), default=False)
    reason = models.CharField(_("reason"), max_length=REASON_LENGTH)
    actor = models.CharField(_("ordered by"), max_length=200)
    key = models.CharField(_("key"), max_length=120, unique=True)
    created_at = models.DateTimeField(_("ordered at"))
    canary = models.PositiveSmallIntegerField(_("canary (%)"))
    observe_s = models.PositiveIntegerField(_("seconds for which the canary is observed"))
    patience_s = models.PositiveIntegerField(_("seconds until a new agent must be live"))
    halt_above = models.PositiveSmallIntegerField(_("roll back above this share of failed ones (%)"))
    wave = models.PositiveIntegerField(_("agents of a unit changed at once, at most"))
    surge = models.PositiveIntegerField(_("temporary seats of a unit, at most"))
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.CANARY)
    paused_from = models.CharField(_("paused while"), max_length=10, choices=State, blank=True, default="")
    changed_at = models.DateTimeField(_("in this state since"))
    note = models.CharField(_("why it is in this state"), max_length=REASON_LENGTH, blank=True, default="")

    objects = ScopedManager.from_queryset(RolloutQuerySet)()

    class Meta:
        verbose_name = _("rollout")
        verbose_name_plural = _("rollouts")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(canary__gte=1, canary__lte=100), name="rollout_canary"),
            models.CheckConstraint(condition=Q(halt_above__lte=100), name="rollout_halt"),
            models.CheckConstraint(condition=Q(wave__gte=1, surge__gte=1), name="rollout_steps"),
            models.CheckConstraint(condition=~Q(reason=""), name="rollout_has_reason"),
            models.CheckConstraint(
                condition=(Q(state="paused") & ~Q(paused_from="")) | (~Q(state="paused") & Q(paused_from="")),
                name="rollout_paused_from",
            ),
        ]
        indexes = [models.Index(fields=["unit", "-id"], name="rollout_of_unit")]

    def __str__(self) -> str:
        return f"#{self.pk} {self.version}"

    @property
    def observed_until(self) -> datetime | None:
        """When the observation of the canary ends; None unless it is observed."""
        if self.state != self.State.OBSERVING:
            return None
        return self.changed_at + timedelta(seconds=self.observe_s)


class RolloutUnit(models.Model):
    """A rollout in one unit. At most one is open for each unit and blueprint: the database holds that."""

    UNIT: ClassVar[str] = "unit_id"

    rollout = models.ForeignKey(Rollout, verbose_name=_("rollout"), on_delete=models.PROTECT, related_name="units")
    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    blueprint = models.ForeignKey(Blueprint, verbose_name=_("blueprint"), on_delete=models.PROTECT)
    agents = models.PositiveIntegerField(_("agents to change when it began"))
    canaries = models.PositiveIntegerField(_("of them canaries"))
    ended_at = models.DateTimeField(_("ended at"), null=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("rollout in a unit")
        verbose_name_plural = _("rollouts in units")
        ordering = ["rollout", "unit"]
        constraints = [
            models.UniqueConstraint(fields=["rollout", "unit"], name="rollout_unit_once"),
            models.UniqueConstraint(
                fields=["unit", "blueprint"], condition=Q(ended_at=None), name="rollout_one_per_unit"
            ),
            models.CheckConstraint(condition=Q(canaries__lte=F("agents")), name="rollout_unit_canaries"),
        ]

    def __str__(self) -> str:
        return f"{self.rollout_id} {self.unit_id}"


class RolloutSeat(models.Model):
    """A seat that a rollout has changed: by which version before, since when, and what became of its new agent."""

    UNIT: ClassVar[str] = "unit_id"

    class State(models.TextChoices):
        BEGUN = "begun", _("new agent appointed")
        LIVE = "live", _("new agent live")
        BACK = "back", _("former version appointed")
        RESTORED = "restored", _("former version live")

    rollout = models.ForeignKey(Rollout, verbose_name=_("rollout"), on_delete=models.PROTECT, related_name="seats")
    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    seat = models.ForeignKey(Seat, verbose_name=_("seat"), on_delete=models.PROTECT, related_name="+")
    former = models.ForeignKey(
        BlueprintVersion, verbose_name=_("former version"), on_delete=models.PROTECT, related_name="+"
    )
    canary = models.BooleanField(_("canary"), default=False)
    generation = models.PositiveIntegerField(_("generation"))
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.BEGUN)
    begun_at = models.DateTimeField(_("begun at"))
    live_at = models.DateTimeField(_("live at"), null=True)
    failed_at = models.DateTimeField(_("failed at"), null=True)
    failure = models.CharField(_("how it failed"), max_length=200, blank=True, default="")

    objects = ScopedManager()

    class Meta:
        verbose_name = _("seat of a rollout")
        verbose_name_plural = _("seats of rollouts")
        ordering = ["rollout", "id"]
        constraints = [models.UniqueConstraint(fields=["rollout", "seat"], name="rollout_seat_once")]
        indexes = [
            models.Index(fields=["rollout", "unit", "state"], name="rollout_seat_state"),
            models.Index(fields=["seat"], name="rollout_seat_open", condition=Q(state__in=("begun", "back"))),
        ]

    def __str__(self) -> str:
        return f"{self.rollout_id} {self.seat_id} {self.state}"


class SurgeSeat(models.Model):
    """A temporary seat (`holding.surge`): by which rollout it was opened last, and whether it is open."""

    UNIT: ClassVar[str] = "unit_id"

    seat = models.OneToOneField(
        Seat, verbose_name=_("seat"), primary_key=True, on_delete=models.PROTECT, related_name="surge"
    )
    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    rollout = models.ForeignKey(
        Rollout, verbose_name=_("rollout"), on_delete=models.PROTECT, related_name="surge_seats"
    )
    opened_at = models.DateTimeField(_("opened at"))
    closed_at = models.DateTimeField(_("closed at"), null=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("temporary seat")
        verbose_name_plural = _("temporary seats")
        constraints = [
            models.CheckConstraint(
                condition=Q(closed_at=None) | Q(closed_at__gte=F("opened_at")), name="surge_seat_closes_after"
            ),
        ]
        indexes = [models.Index(fields=["unit"], name="surge_seat_open", condition=Q(closed_at=None))]

    def __str__(self) -> str:
        return f"{self.seat_id} #{self.rollout_id}"


class CrashRule(models.Model):
    """When a blueprint version is taken for one that crash-loops: one row, which a resolution may change."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    window_s = models.PositiveIntegerField(_("seconds that are looked at"), default=300)
    least = models.PositiveIntegerField(_("failed seats, at least"), default=5)
    share = models.FloatField(
        _("share of its agents that failed, at least"),
        default=0.20,
        help_text=_("And twice the share among the agents of the blueprint's other versions."),
    )

    class Meta:
        verbose_name = _("crash-loop rule")
        verbose_name_plural = _("crash-loop rules")
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="crash_rule_is_one"),
            models.CheckConstraint(condition=Q(least__gte=1, share__gt=0, share__lte=1), name="crash_rule_share"),
        ]

    def __str__(self) -> str:
        return str(_("crash-loop rule"))
