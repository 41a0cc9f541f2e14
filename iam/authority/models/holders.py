"""Who holds authority when: appointments, delegations, substitutions; and interests, which take it away."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from holding.models import Unit
from iam.access.models import User
from iam.authority.models.matrix import Matter, Office


class EffectiveQuerySet(models.QuerySet[Any]):
    """Reads of what holds for a time."""

    def at(self, when: datetime) -> Self:
        """Return what holds at that time."""
        return self.filter(Q(valid_to=None) | Q(valid_to__gt=when), valid_from__lte=when)


class Effective(models.Model):
    """Something that holds for a time, [valid_from, valid_to). Only its end is ever written (migration 0002)."""

    valid_from = models.DateTimeField(_("from"))
    valid_to = models.DateTimeField(_("until"), null=True)
    recorded_by = models.CharField(_("recorded by"), max_length=200)

    class Meta:
        abstract = True
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(valid_to=None) | Q(valid_to__gte=F("valid_from")), name="%(class)s_ends_after_start"
            )
        ]


class AppointmentQuerySet(EffectiveQuerySet):
    """Reads of appointments."""

    def in_office(self, at: datetime) -> Self:
        """Return the appointments that give authority at that time: of active people with the clearance."""
        return self.at(at).filter(person__is_active=True, person__cleared=True)

    def holding(self, office: Office, unit: Unit, at: datetime) -> Self:
        """Return the appointments to an office that concern a unit at that time."""
        found = self.in_office(at).filter(office=office)
        return found.filter(unit=unit) if office.scope == Office.Scope.UNIT else found


class Appointment(Effective):
    """A person holds an office: of a unit, of the group, or a seat in a body."""

    office = models.ForeignKey(Office, verbose_name=_("office"), on_delete=models.PROTECT)
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("person"), on_delete=models.PROTECT, related_name="appointments"
    )
    unit = models.ForeignKey(Unit, verbose_name=_("unit"), null=True, on_delete=models.PROTECT)

    objects = AppointmentQuerySet.as_manager()

    class Meta(Effective.Meta):
        verbose_name = _("appointment")
        verbose_name_plural = _("appointments")
        constraints = [
            *Effective.Meta.constraints,
            models.UniqueConstraint(fields=["id", "person"], name="appointment_of_person"),
        ]
        indexes = [models.Index(fields=["office", "unit"], name="appointment_office")]

    def __str__(self) -> str:
        return f"{self.person_id} {self.office_id}"


class Delegation(Effective):
    """A holder lends an office's authority to somebody, who cannot lend it on.

    The delegator is the appointment's own person (one key over both, migration 0002), so only who holds an
    office can delegate it. No matters means all of the office's; a `limit` is at most the office's own.
    """

    appointment = models.ForeignKey(
        Appointment, verbose_name=_("appointment"), on_delete=models.PROTECT, related_name="delegations"
    )
    delegator = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("delegator"),
        on_delete=models.PROTECT,
        related_name="delegations_given",
    )
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("delegate"), on_delete=models.PROTECT, related_name="delegations"
    )
    matters = ArrayField(models.CharField(max_length=24), verbose_name=_("matters"), default=list)  # slugs
    limit = models.DecimalField(_("limit"), max_digits=20, decimal_places=4, null=True)
    reason = models.CharField(_("reason"), max_length=200)

    objects = EffectiveQuerySet.as_manager()

    class Meta(Effective.Meta):
        verbose_name = _("delegation")
        verbose_name_plural = _("delegations")
        constraints = [
            *Effective.Meta.constraints,
            models.CheckConstraint(condition=~Q(person=F("delegator")), name="delegation_to_another"),
            models.CheckConstraint(condition=Q(limit=None) | Q(limit__gte=0), name="delegation_limit"),
        ]

    def __str__(self) -> str:
        return f"{self.appointment_id} → {self.person_id}"

    def names(self, matter: Matter) -> bool:
        """Whether it covers a matter."""
        return not self.matters or matter.slug in self.matters


class Substitution(Effective):
    """Somebody stands in for an absent person, with all offices of that person."""

    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("person"), on_delete=models.PROTECT, related_name="substitutions"
    )
    substitute = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("substitute"),
        on_delete=models.PROTECT,
        related_name="substituting",
    )
    reason = models.CharField(_("reason"), max_length=200)

    objects = EffectiveQuerySet.as_manager()

    class Meta(Effective.Meta):
        verbose_name = _("substitution")
        verbose_name_plural = _("substitutions")
        constraints = [
            *Effective.Meta.constraints,
            models.CheckConstraint(condition=~Q(person=F("substitute")), name="substitution_by_another"),
        ]

    def __str__(self) -> str:
        return f"{self.person_id} → {self.substitute_id}"


class InterestQuerySet(EffectiveQuerySet):
    """Reads of interests."""

    def during(self, since: Any, until: datetime) -> Self:
        """Return the interests that held at any time between these (`since` may be an outer query's column).

        One that ended as it began never held.
        """
        return self.filter(
            Q(valid_to=None) | (Q(valid_to__gt=since) & Q(valid_to__gt=F("valid_from"))), valid_from__lte=until
        )

    def touching(self, unit: Any, counterparty: Any) -> Self:
        """Return the interests in a unit or a counterparty ("" is none): values, or an outer query's columns."""
        return self.filter(
            Q(unit=unit)
            | Q(unit__slug__iexact=counterparty)
            | (Q(counterparty__iexact=counterparty) & ~Q(counterparty=""))
        )


class Interest(Effective):
    """A person's own interest in a unit or a counterparty: it bars them from deciding what touches it."""

    class Kind(models.TextChoices):
        OWNERSHIP = "ownership", _("ownership")
        OFFICE = "office", _("office held elsewhere")
        RELATIVE = "relative", _("relative")
        OTHER = "other", _("other")

    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("person"), on_delete=models.PROTECT, related_name="interests"
    )
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    unit = models.ForeignKey(Unit, verbose_name=_("unit"), null=True, on_delete=models.PROTECT)
    counterparty = models.CharField(_("counterparty"), max_length=200, blank=True)

    objects = InterestQuerySet.as_manager()

    class Meta(Effective.Meta):
        verbose_name = _("interest")
        verbose_name_plural = _("interests")
        constraints = [
            *Effective.Meta.constraints,
            models.CheckConstraint(
                condition=Q(unit__isnull=False, counterparty="") | (Q(unit=None) & ~Q(counterparty="")),
                name="interest_in_unit_or_counterparty",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.person_id} {self.counterparty or self.unit_id}"


def same_eyes(account: User) -> models.QuerySet[User]:
    """Return the accounts that are one pair of eyes: a person and the services and agents they answer for."""
    person = account.owner_id or account.pk
    return User.objects.filter(Q(pk=person) | Q(owner=person))


@dataclass(frozen=True, slots=True)
class Hat:
    """One title to decide under: one's own office, one lent by its holder, or of somebody one stands in for."""

    appointment: Appointment
    delegation: Delegation | None = None
    substitution: Substitution | None = None

    @property
    def acting_for(self) -> User | None:
        """Whose authority it is, when it is somebody else's."""
        return self.appointment.person if self.delegation or self.substitution else None

    @property
    def key(self) -> str:
        """What a person chooses it by among several: `office-7`, `delegation-3`, `substitution-2-7`."""
        if self.delegation:
            return f"delegation-{self.delegation.pk}"
        if self.substitution:
            return f"substitution-{self.substitution.pk}-{self.appointment.pk}"
        return f"office-{self.appointment.pk}"


def hats(person: User, at: datetime) -> Iterator[Hat]:
    """Yield every title under which a person may decide at that time, their own first."""
    if not (person.is_active and person.cleared):
        return
    lent = Delegation.objects.at(at).filter(person=person)
    replaced = Substitution.objects.at(at).filter(substitute=person)
    valid = Appointment.objects.in_office(at).filter(
        Q(person=person) | Q(pk__in=lent.values("appointment")) | Q(person__in=replaced.values("person"))
    )
    appointments = list(valid.select_related("office", "person", "unit").order_by("-id"))
    for appointment in appointments:
        if appointment.person_id == person.pk:
            yield Hat(appointment)
    others = {one.pk: one for one in appointments if one.person_id != person.pk}
    if not others:  # as of most people: one query is all
        return
    for delegation in lent.filter(appointment__in=others):
        yield Hat(others[delegation.appointment_id], delegation=delegation)
    for substitution in replaced:
        for appointment in others.values():
            if appointment.person_id == substitution.person_id:
                yield Hat(appointment, substitution=substitution)
