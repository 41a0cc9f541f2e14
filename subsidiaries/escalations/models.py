"""Escalations: who needs what, who was asked, who has it now, and what was decided."""

from datetime import datetime, timedelta
from typing import ClassVar, Final, Self

from django.conf import settings
from django.db import models
from django.db.models import Count, Q
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from holding import scope
from holding.models import Body, Mandate, Seat, Unit
from holding.scope import ScopedManager
from iam.access.names import shown_who
from iam.authority.models import Office

HOLDING: Final = "holding"
OPEN_STATES: Final = ("raised", "taken")


class EscalationQuerySet(models.QuerySet["Escalation"]):
    """Reads of escalations."""

    def open(self) -> Self:
        """Return those that wait for an outcome."""
        return self.filter(state__in=OPEN_STATES)

    def for_listing(self) -> Self:
        """Return escalations with what a list shows of them."""
        return self.select_related("unit", "mandate", "owner_body", "office", "person")

    def open_by_unit(self, now: datetime) -> dict[int, tuple[int, int]]:
        """Return (open, of these overdue) of each unit that has any, by its id."""
        late = Count("pk", filter=Q(due_at__lt=now))
        rows = self.open().order_by().values_list("unit_id").annotate(waiting=Count("pk"), late=late)
        return {unit: (waiting, late) for unit, waiting, late in rows}


class Escalation(models.Model):
    """Something that an agent, or the portal itself, cannot settle: it climbs until somebody takes it."""

    UNIT: ClassVar[str] = "unit_id"

    class State(models.TextChoices):
        RAISED = "raised", _("raised")
        TAKEN = "taken", _("taken")
        RESOLVED = "resolved", _("resolved")
        EXPIRED = "expired", _("expired")

    class Severity(models.IntegerChoices):
        CRITICAL = 0, _("critical")
        HIGH = 1, _("high")
        MEDIUM = 2, _("medium")
        LOW = 3, _("low")

    class Matter(models.TextChoices):
        STAFFING = "staffing", _("staffing")
        QUALITY = "quality", _("quality and service")
        TRAINING = "training", _("training")
        FINANCE = "finance", _("finance")
        SECURITY = "security", _("security")
        GOVERNANCE = "governance", _("governance")

    class Level(models.TextChoices):
        L2 = "L2", _("L2 specialists and innovators")
        L3 = "L3", _("L3 coordination")
        L4 = "L4", _("L4 management")
        HOLDING = HOLDING, _("the holding")

    code = models.CharField(_("code"), max_length=120, unique=True)
    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    seat = models.ForeignKey(Seat, verbose_name=_("seat"), null=True, on_delete=models.PROTECT)
    agent = models.CharField(_("raised by"), max_length=200)  # an agent's subject, or a part of the portal
    work_id = models.CharField(_("work item"), max_length=60, blank=True)
    matter = models.CharField(_("matter"), max_length=10, choices=Matter)
    severity = models.SmallIntegerField(_("severity"), choices=Severity)
    summary = models.CharField(_("summary"), max_length=500)
    needs = models.CharField(_("needs"), max_length=500, blank=True)
    level = models.CharField(_("level"), max_length=7, choices=Level)
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.RAISED)
    raised_at = models.DateTimeField(_("raised at"))
    due_at = models.DateTimeField(_("due at"))
    expires_at = models.DateTimeField(_("expires at"))

    # Who owns the matter at the holding: by its mandate, a body and a seat in it, and the office of who decides.
    mandate = models.ForeignKey(Mandate, verbose_name=_("mandate"), null=True, on_delete=models.PROTECT)
    owner_body = models.ForeignKey(Body, verbose_name=_("owning body"), null=True, on_delete=models.PROTECT)
    owner_es = models.CharField(_("owning seat (Spanish)"), max_length=100, blank=True)
    owner_en = models.CharField(_("owning seat (English)"), max_length=100, blank=True)
    office = models.ForeignKey(Office, verbose_name=_("office"), null=True, on_delete=models.PROTECT)

    taken_by = models.CharField(_("taken by"), max_length=200, blank=True)  # an agent's subject, or a username
    taken_at = models.DateTimeField(_("taken at"), null=True)
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("person"), null=True, on_delete=models.PROTECT, related_name="+"
    )
    decision = models.CharField(_("decision"), max_length=500, blank=True)
    settled_by = models.CharField(_("settled by"), max_length=200, blank=True)
    settled_at = models.DateTimeField(_("settled at"), null=True)

    objects = ScopedManager.from_queryset(EscalationQuerySet)()

    class Meta:
        verbose_name = _("escalation")
        verbose_name_plural = _("escalations")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=OPEN_STATES, settled_at=None)
                | (~Q(state__in=OPEN_STATES) & Q(settled_at__isnull=False)),
                name="escalation_settled",
            ),
            models.CheckConstraint(
                condition=Q(state="raised", taken_by="", taken_at=None, person=None) | ~Q(state="raised"),
                name="escalation_raised_is_nobodys",
            ),
        ]
        indexes = [
            models.Index(fields=["severity", "id"], name="escalation_open", condition=Q(state__in=OPEN_STATES)),
            models.Index(fields=["unit", "-id"], name="escalation_unit"),
            models.Index(fields=["due_at"], name="escalation_due", condition=Q(state__in=OPEN_STATES)),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def is_open(self) -> bool:
        """Whether it waits for an outcome."""
        return self.state in OPEN_STATES

    @property
    def owner(self) -> str:
        """The seat that owns the matter, in the language of the request; the body when no seat does.

        Seats of the parent company are shown to whoever sees the whole holding, bodies to everybody.
        """
        seat = self.owner_en if (get_language() or "").startswith("en") else self.owner_es
        if scope.current().units() is not None:
            seat = ""
        return seat or (self.owner_body.name if self.owner_body else "")

    @property
    def taker(self) -> str:
        """Who has it, as whoever asks may see."""
        return shown_who(self.taken_by, self.unit_id)

    @property
    def settler(self) -> str:
        """Who settled it, as whoever asks may see."""
        return shown_who(self.settled_by, self.unit_id)

    def overdue_by(self, now: datetime) -> timedelta:
        """Return for how long it has been overdue; nothing when it is not, or settled."""
        return max(now - self.due_at, timedelta()) if self.is_open else timedelta()


class Step(models.Model):
    """One point of an escalation's way. A level is asked once."""

    UNIT: ClassVar[str] = "escalation__unit_id"

    class Kind(models.TextChoices):
        ASKED = "asked", _("asked, and took it")
        PASSED = "passed", _("asked, without an answer")
        RAISED = "raised", _("raised to the holding")
        TAKEN = "taken", _("taken")
        ASSIGNED = "assigned", _("assigned")
        RESOLVED = "resolved", _("resolved")
        EXPIRED = "expired", _("expired")

    escalation = models.ForeignKey(
        Escalation, verbose_name=_("escalation"), on_delete=models.PROTECT, related_name="steps"
    )
    kind = models.CharField(_("kind"), max_length=8, choices=Kind)
    level = models.CharField(_("level"), max_length=7, blank=True)
    who = models.CharField(_("who"), max_length=200, blank=True)
    note = models.CharField(_("note"), max_length=500, blank=True)
    at = models.DateTimeField(_("at"))

    objects = ScopedManager()

    class Meta:
        verbose_name = _("step of an escalation")
        verbose_name_plural = _("steps of escalations")
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["escalation", "level"], condition=~Q(level=""), name="level_asked_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.escalation_id} {self.kind} {self.who}"

    @property
    def shown(self) -> str:
        """Who it was, as whoever asks may see."""
        return shown_who(self.who, self.escalation.unit_id)
