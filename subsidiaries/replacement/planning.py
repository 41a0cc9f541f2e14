"""How a subsidiary is to be staffed: plans of roles, caps that people delegated, agents that are to retire."""

from datetime import date
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from holding.models import Role, Seat, Unit
from holding.scope import ScopedManager
from iam.authority.models import Approval


class StaffingPlan(models.Model):
    """The staffing of a role in a subsidiary: floor (quota), reserve beyond it, and how far it may grow.

    The establishment is floor + reserve. Floors are never below the holding's quotas, and those of a subsidiary add
    up to its floor (both held by the database, migration 0008).
    """

    UNIT: ClassVar[str] = "unit_id"

    unit = models.ForeignKey(
        Unit, verbose_name=_("unit"), on_delete=models.PROTECT, related_name="plans", db_index=False
    )
    role = models.ForeignKey(Role, verbose_name=_("role"), on_delete=models.PROTECT, related_name="+")
    floor = models.PositiveIntegerField(_("floor"), help_text=_("Live agents that there must be."))
    reserve = models.PositiveIntegerField(_("reserve"), default=0, help_text=_("Seats beyond the floor."))
    maximum = models.PositiveIntegerField(
        _("maximum"), help_text=_("Seats that there may be, with those opened for planned retirements.")
    )
    changed_at = models.DateTimeField(_("changed at"))
    changed_by = models.CharField(_("changed by"), max_length=200)
    reason = models.CharField(_("reason"), max_length=500, blank=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("staffing plan")
        verbose_name_plural = _("staffing plans")
        ordering = ["unit__position", "role__position"]
        constraints = [
            models.UniqueConstraint(fields=["unit", "role"], name="staffing_plan_once"),
            models.CheckConstraint(
                condition=Q(floor__lte=F("floor") + F("reserve")) & Q(maximum__gte=F("floor") + F("reserve")),
                name="staffing_plan_order",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.unit_id}/{self.role_id} {self.floor}+{self.reserve}"

    @property
    def establishment(self) -> int:
        """Seats that the role shall have: floor and reserve."""
        return self.floor + self.reserve


class CapDelegationQuerySet(models.QuerySet["CapDelegation"]):
    """Reads of delegated caps."""

    def in_force(self, day: date) -> "CapDelegationQuerySet":
        """Return those that count on a business day, the one that decides first."""
        return self.filter(Q(revoked_at=None), Q(ends_on=None) | Q(ends_on__gte=day), starts_on__lte=day).order_by(
            "-pk"
        )


class CapDelegation(models.Model):
    """What people delegated to ARP: so many replacements of a unit per business day, from a day to a day.

    The newest one in force counts; without one, the cap of the staffing rule.
    """

    UNIT: ClassVar[str] = "unit_id"

    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT, related_name="+")
    cap = models.PositiveIntegerField(_("replacements per day, at most"))
    starts_on = models.DateField(_("from"))
    ends_on = models.DateField(_("until"), null=True, blank=True)
    reason = models.CharField(_("reason"), max_length=500)
    approval = models.OneToOneField(
        Approval, verbose_name=_("approval"), on_delete=models.PROTECT, related_name="+"
    )
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)
    revoked_by = models.CharField(_("revoked by"), max_length=200, blank=True)

    objects = ScopedManager.from_queryset(CapDelegationQuerySet)()

    class Meta:
        verbose_name = _("delegated cap")
        verbose_name_plural = _("delegated caps")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_on=None) | Q(ends_on__gte=F("starts_on")), name="cap_delegation_ends_after"
            ),
        ]
        indexes = [models.Index(fields=["unit", "-id"], name="cap_delegation_of_unit")]

    def __str__(self) -> str:
        return f"{self.unit_id} {self.cap} {self.starts_on}"


class Retirement(models.Model):
    """Agents of a role that are to be followed by their next generation, without a dip below the floor."""

    UNIT: ClassVar[str] = "unit_id"

    class State(models.TextChoices):
        RUNNING = "running", _("running")
        PAUSED = "paused", _("paused")
        DONE = "done", _("done")
        ABORTED = "aborted", _("aborted")

    class Choice(models.TextChoices):
        OLDEST = "oldest", _("the oldest agents")
        VERSION = "version", _("agents of older blueprint versions")
        NAMED = "named", _("agents by name")

    GOING: ClassVar[tuple[State, State]] = (State.RUNNING, State.PAUSED)

    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT, related_name="+")
    role = models.ForeignKey(Role, verbose_name=_("role"), on_delete=models.PROTECT, related_name="+")
    choice = models.CharField(_("which agents"), max_length=8, choices=Choice)
    detail = models.CharField(_("detail"), max_length=200, blank=True)
    surge = models.PositiveIntegerField(_("seats opened for it"), default=0)
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.RUNNING)
    words = models.CharField(_("what it waits for"), max_length=200, blank=True)
    reason = models.CharField(_("reason"), max_length=500)
    actor = models.CharField(_("ordered by"), max_length=200)
    key = models.CharField(_("key"), max_length=100, unique=True)
    created_at = models.DateTimeField(_("ordered at"))
    changed_at = models.DateTimeField(_("changed at"))

    objects = ScopedManager()

    class Meta:
        verbose_name = _("planned retirement")
        verbose_name_plural = _("planned retirements")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["unit", "role"], condition=Q(state__in=["running", "paused"]), name="retirement_one_going"
            ),
        ]
        indexes = [models.Index(fields=["unit", "-id"], name="retirement_of_unit")]

    def __str__(self) -> str:
        return f"#{self.pk} {self.unit_id}/{self.role_id} {self.state}"


class Retiree(models.Model):
    """A seat whose agent is to retire: the generation that is meant, and when the next one was taken out."""

    UNIT: ClassVar[str] = "retirement__unit_id"

    retirement = models.ForeignKey(
        Retirement, verbose_name=_("planned retirement"), on_delete=models.CASCADE, related_name="retirees"
    )
    seat = models.ForeignKey(Seat, verbose_name=_("seat"), on_delete=models.PROTECT, related_name="+")
    generation = models.PositiveIntegerField(_("generation"))
    place = models.PositiveIntegerField(_("place"))
    begun_at = models.DateTimeField(_("begun at"), null=True, blank=True)
    done_at = models.DateTimeField(_("done at"), null=True, blank=True)
    moved_on = models.BooleanField(_("replaced meanwhile"), default=False)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("retiree")
        verbose_name_plural = _("retirees")
        ordering = ["retirement", "place"]
        constraints = [models.UniqueConstraint(fields=["retirement", "seat"], name="retiree_once")]
        indexes = [models.Index(fields=["retirement", "place"], name="retiree_open", condition=Q(done_at=None))]

    def __str__(self) -> str:
        return f"#{self.retirement_id} {self.seat_id} g{self.generation}"
