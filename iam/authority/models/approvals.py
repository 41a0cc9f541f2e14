"""Approvals: what was asked for, who had to decide it, and what they decided."""

from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar, Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from holding.models import Unit
from holding.scope import ScopedManager, Units
from iam.access.models import User
from iam.authority.models.holders import Delegation, Hat, Interest, Substitution, hats, same_eyes
from iam.authority.models.matrix import MatrixVersion, Matter, Office, Rule


class ApprovalQuerySet(models.QuerySet["Approval"]):
    """Reads of approvals."""

    def for_listing(self) -> Self:
        """Return approvals with what a list shows of them, the newest first."""
        return (
            self.select_related("matter", "unit", "requester", "version")
            .prefetch_related("levels__office", "decisions__person", "decisions__acting_for", "decisions__office")
            .order_by("-id")
        )

    def locked(self, pk: int) -> "Approval":
        """Return an approval under its row's lock, in the caller's transaction."""
        rows = self.select_for_update(of=("self",)).select_related("matter", "unit", "version", "requester")
        return rows.get(pk=pk)

    def requested_by(self, person: User) -> Self:
        """Return what a person asked for."""
        return self.filter(requester=person)

    def of_units(self, units: Units) -> Self:
        """Return the approvals of units (None: of all)."""
        return self if units is None else self.filter(unit__in=units)

    def concerning(self, person: User, at: datetime) -> Self:
        """Return what a person asked for, decided, or may decide at that time, of whatever unit."""
        may = self.waiting_for(person, at).order_by().values("pk")
        return self.filter(
            Q(requester=person) | Q(pk__in=may) | Q(Exists(person.decisions.filter(approval=OuterRef("pk"))))
        )

    def waiting_for(self, person: User, at: datetime) -> Self:
        """Return what a person may decide at that time: the inbox. Says the same as `explain`, in one query."""
        worn = list(hats(person, at))
        if not worn:
            return self.none()
        titles = Q(pk__in=[])
        for hat in worn:
            titles |= self._under(hat, at)
        return (
            self.filter(titles, state=Approval.State.PENDING, expires_at__gt=at)
            .filter(~_asked_by(person))
            .filter(~self._recused(person, at))
            .exclude(decisions__person=person)
        )

    def _under(self, hat: Hat, at: datetime) -> Q:
        """Approvals that may be decided under one title, whoever uses it."""
        office = hat.appointment.office
        allowed = Q(Exists(Level.objects.filter(approval=OuterRef("pk"), office=office)))
        if office.scope == Office.Scope.UNIT:
            allowed &= Q(unit=hat.appointment.unit_id)
        if hat.delegation:
            if hat.delegation.matters:
                allowed &= Q(matter__slug__in=hat.delegation.matters)
            if hat.delegation.limit is not None:
                allowed &= Q(judged__lte=hat.delegation.limit)
        owner = hat.appointment.person
        decided = Decision.objects.filter(approval=OuterRef("pk")).represents(owner)
        return allowed & ~Q(Exists(decided)) & ~self._recused(owner, at) & ~_asked_by(owner)

    def _recused(self, person: User, at: datetime) -> Q:
        interests = Interest.objects.during(OuterRef("requested_at"), at).filter(person=person)
        return Q(parties__contains=[person.pk]) | Q(
            Exists(interests.touching(OuterRef("unit"), OuterRef("counterparty")))
        )

    def counted_with(self, approval: "Approval", since: datetime) -> Self:
        """Return what is added to a new approval's value: same matter, unit and counterparty, not refused.

        Without a counterparty, what the same pair of eyes asked for without one.
        """
        same = self.filter(
            matter=approval.matter,
            unit=approval.unit,
            requested_at__gt=since,
            state__in=(Approval.State.PENDING, Approval.State.APPROVED, Approval.State.EXECUTED),
            counterparty__iexact=approval.counterparty,
        )
        if approval.counterparty:
            return same
        return same.filter(_asked_by(approval.requester) if approval.requester else Q(actor=approval.actor))


def _asked_by(person: User) -> Q:
    """What a person asked for themselves, or by an account that they answer for."""
    return Q(Exists(same_eyes(person).filter(pk=OuterRef("requester"))))


class Approval(models.Model):
    """A request for a decision, with the authority that it needs as it was when it was asked for.

    Only its state, times and outcome are ever written after that (migration 0002).
    """

    UNIT: ClassVar[str] = "unit_id"

    class State(models.TextChoices):
        PENDING = "pending", _("waiting for a decision")
        APPROVED = "approved", _("approved")
        EXECUTED = "executed", _("executed")
        FAILED = "failed", _("failed")
        REJECTED = "rejected", _("rejected")
        EXPIRED = "expired", _("expired")
        WITHDRAWN = "withdrawn", _("withdrawn")

    key = models.CharField(_("idempotency key"), max_length=200, unique=True)
    matter = models.ForeignKey(Matter, verbose_name=_("matter"), on_delete=models.PROTECT)
    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    value = models.DecimalField(_("value"), max_digits=20, decimal_places=4)
    currency = models.CharField(_("currency"), max_length=3, blank=True)  # "" when the matter is no amount
    fx_rate = models.DecimalField(_("EUR for one of the currency"), max_digits=18, decimal_places=8, default=1)
    fx_on = models.DateField(_("day of the rate"), null=True)  # None for EUR, and when the matter is no amount
    counterparty = models.CharField(_("counterparty"), max_length=200, blank=True)
    parties = ArrayField(models.BigIntegerField(), verbose_name=_("people who are parties"), default=list)
    title = models.CharField(_("title"), max_length=200)
    reason = models.TextField(_("reason"), blank=True)
    requester = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("requester"),
        null=True,
        on_delete=models.PROTECT,
        related_name="approvals",
    )
    actor = models.CharField(_("asked by"), max_length=200)
    action = models.CharField(_("action"), max_length=100, blank=True)  # "": the approval is the effect
    parameters = models.JSONField(_("parameters"), default=dict)
    digest = models.CharField(_("digest of the parameters"), max_length=64)

    version = models.ForeignKey(MatrixVersion, verbose_name=_("matrix"), on_delete=models.PROTECT)
    judged = models.DecimalField(_("value judged"), max_digits=24, decimal_places=4)  # EUR, summed where split
    by_rule = models.BooleanField(_("granted by rule"), default=False)

    state = models.CharField(_("state"), max_length=10, choices=State, default=State.PENDING)
    requested_at = models.DateTimeField(_("requested at"))
    due_at = models.DateTimeField(_("due at"))
    expires_at = models.DateTimeField(_("expires at"))
    remind_at = models.DateTimeField(_("remind at"), null=True)
    escalate_at = models.DateTimeField(_("escalate at"), null=True)
    settled_at = models.DateTimeField(_("decided at"), null=True)
    executed_at = models.DateTimeField(_("executed at"), null=True)
    failure = models.CharField(_("reason of the failure"), max_length=500, blank=True)

    objects = ScopedManager.from_queryset(ApprovalQuerySet)()

    class Meta:
        verbose_name = _("approval")
        verbose_name_plural = _("approvals")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(value__gte=0, fx_rate__gt=0), name="approval_value"),
            models.CheckConstraint(
                condition=Q(state="pending", settled_at=None) | (~Q(state="pending") & Q(settled_at__isnull=False)),
                name="approval_settled",
            ),
            models.CheckConstraint(
                condition=Q(state="executed", executed_at__isnull=False)
                | (~Q(state="executed") & Q(executed_at=None)),
                name="approval_executed",
            ),
        ]
        indexes = [
            models.Index(fields=["matter", "unit", "requested_at"], name="approval_split"),
            models.Index(fields=["requester", "-id"], name="approval_requester"),
            models.Index(fields=["unit", "-id"], name="approval_unit"),
            models.Index(fields=["expires_at"], name="approval_pending", condition=Q(state="pending")),
            models.Index(fields=["id"], name="approval_approved", condition=Q(state="approved") & ~Q(action="")),
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.title}"


class Level(models.Model):
    """An office that may decide an approval: the required one, and those to which it was escalated. Append-only."""

    UNIT: ClassVar[str] = "approval__unit_id"

    class Cause(models.TextChoices):
        REQUIRED = "required", _("required by the matrix")
        SHORT = "short", _("too few below may decide")
        LATE = "late", _("not decided in time")

    approval = models.ForeignKey(
        Approval, verbose_name=_("approval"), on_delete=models.PROTECT, related_name="levels"
    )
    office = models.ForeignKey(Office, verbose_name=_("office"), on_delete=models.PROTECT)
    rule = models.ForeignKey(Rule, verbose_name=_("rule"), on_delete=models.PROTECT)
    required = models.PositiveSmallIntegerField(_("holders required"))
    majority = models.BooleanField(_("majority"), default=False)
    eligible = ArrayField(models.BigIntegerField(), verbose_name=_("people who could decide then"), default=list)
    cause = models.CharField(_("cause"), max_length=8, choices=Cause)
    since = models.DateTimeField(_("since"))

    objects = ScopedManager()

    class Meta:
        verbose_name = _("level")
        verbose_name_plural = _("levels")
        ordering = ["approval", "id"]
        constraints = [models.UniqueConstraint(fields=["approval", "office"], name="level_once")]

    def __str__(self) -> str:
        return f"{self.approval_id} {self.office_id}"


class DecisionQuerySet(models.QuerySet["Decision"]):
    """Reads of decisions."""

    def represents(self, person: User) -> Self:
        """Return the decisions on a person's own authority, whoever gave them."""
        return self.filter(Q(person=person, acting_for=None) | Q(acting_for=person))

    def people(self, offices: Iterable[Office], verdict: str) -> set[int]:
        """Return the ids of the people who gave that verdict under one of the offices."""
        return set(self.filter(office__in=list(offices), verdict=verdict).values_list("person_id", flat=True))


class Decision(models.Model):
    """What one person decided, under which title. Append-only; never by the requester (migration 0002)."""

    UNIT: ClassVar[str] = "approval__unit_id"

    class Verdict(models.TextChoices):
        APPROVE = "approve", _("approve")
        REJECT = "reject", _("reject")

    approval = models.ForeignKey(
        Approval, verbose_name=_("approval"), on_delete=models.PROTECT, related_name="decisions"
    )
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("person"), on_delete=models.PROTECT, related_name="decisions"
    )
    acting_for = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("acting for"),
        null=True,
        on_delete=models.PROTECT,
        related_name="decisions_by_others",
    )
    office = models.ForeignKey(Office, verbose_name=_("office"), on_delete=models.PROTECT)
    delegation = models.ForeignKey(Delegation, verbose_name=_("delegation"), null=True, on_delete=models.PROTECT)
    substitution = models.ForeignKey(
        Substitution, verbose_name=_("substitution"), null=True, on_delete=models.PROTECT
    )
    verdict = models.CharField(_("verdict"), max_length=7, choices=Verdict)
    note = models.TextField(_("note"), blank=True)
    at = models.DateTimeField(_("at"))

    objects = ScopedManager.from_queryset(DecisionQuerySet)()

    class Meta:
        verbose_name = _("decision")
        verbose_name_plural = _("decisions")
        ordering = ["approval", "id"]
        constraints = [
            # One person counts once, whatever hats; and one person's authority counts once, whoever uses it.
            models.UniqueConstraint(fields=["approval", "person"], name="decision_by_person_once"),
            models.UniqueConstraint("approval", Coalesce("acting_for", "person"), name="decision_for_person_once"),
            models.CheckConstraint(condition=Q(verdict="approve") | ~Q(note=""), name="decision_note_on_reject"),
            models.CheckConstraint(
                condition=Q(acting_for=None, delegation=None, substitution=None)
                | Q(acting_for__isnull=False, delegation__isnull=False, substitution=None)
                | Q(acting_for__isnull=False, delegation=None, substitution__isnull=False),
                name="decision_title",
            ),
            models.CheckConstraint(
                condition=Q(acting_for=None) | ~Q(acting_for=F("person")), name="decision_for_another"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.approval_id} {self.verdict}"
