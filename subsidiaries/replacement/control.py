"""What the controller remembers between its cycles: back-offs, what became of incidents, breaches of the floor.

All of it is in tables and none in memory, so that two workers decide alike and a restarted portal goes on where it
was.
"""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from holding.models import BlueprintVersion, Seat, Unit
from holding.scope import ScopedManager
from iam.access.names import shown_who


class SeatBackoff(models.Model):
    """A seat whose agents do not last: until when its next replacement waits."""

    UNIT: ClassVar[str] = "unit_id"

    seat = models.OneToOneField(
        Seat, verbose_name=_("seat"), primary_key=True, on_delete=models.CASCADE, related_name="backoff"
    )
    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.CASCADE)
    strikes = models.PositiveIntegerField(_("replacements in a row"))
    decided_at = models.DateTimeField(_("last replaced"))
    not_before = models.DateTimeField(_("not replaced again before"))

    objects = ScopedManager()

    class Meta:
        verbose_name = _("back-off of a seat")
        verbose_name_plural = _("back-offs of seats")
        constraints = [models.CheckConstraint(condition=Q(strikes__gte=1), name="seat_backoff_of_some")]
        indexes = [models.Index(fields=["unit", "not_before"], name="seat_backoff_unit")]

    def __str__(self) -> str:
        return f"{self.seat_id} x{self.strikes}"


class VersionStanding(models.Model):
    """How a blueprint version does: proven by live agents, or in trouble and held back."""

    version = models.OneToOneField(
        BlueprintVersion,
        verbose_name=_("blueprint version"),
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="standing",
    )
    proven_at = models.DateTimeField(_("proven at"), null=True)
    strikes = models.PositiveIntegerField(_("times in trouble in a row"), default=0)
    troubled_at = models.DateTimeField(_("last in trouble"), null=True)
    not_before = models.DateTimeField(_("no new agents before"), null=True)

    class Meta:
        verbose_name = _("standing of a blueprint version")
        verbose_name_plural = _("standings of blueprint versions")

    def __str__(self) -> str:
        return f"{self.version_id} x{self.strikes}"


class IncidentStep(models.Model):
    """What happened to an incident: by whom, when, and what they wrote."""

    UNIT: ClassVar[str] = "incident__unit_id"

    class Kind(models.TextChoices):
        GREW = "grew", _("grew")
        ACKNOWLEDGED = "acknowledged", _("acknowledged")
        NOTE = "note", _("note")
        RELEASED = "released", _("brake released")

    incident = models.ForeignKey(
        "replacement.Incident", verbose_name=_("incident"), on_delete=models.PROTECT, related_name="steps"
    )
    kind = models.CharField(_("kind"), max_length=12, choices=Kind)
    who = models.CharField(_("who"), max_length=200)
    note = models.CharField(_("note"), max_length=500, blank=True)
    at = models.DateTimeField(_("at"))

    objects = ScopedManager()

    class Meta:
        verbose_name = _("step of an incident")
        verbose_name_plural = _("steps of incidents")
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.incident_id} {self.kind}"

    @property
    def shown(self) -> str:
        """Who it was, as whoever asks may see."""
        return shown_who(self.who, self.incident.unit_id)


class FloorBreach(models.Model):
    """A time during which a unit was below its floor."""

    UNIT: ClassVar[str] = "unit_id"

    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.CASCADE)
    began_at = models.DateTimeField(_("began at"))
    ended_at = models.DateTimeField(_("ended at"), null=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("breach of the floor")
        verbose_name_plural = _("breaches of the floor")
        constraints = [
            models.UniqueConstraint(fields=["unit"], condition=Q(ended_at=None), name="breach_one_open"),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("began_at")), name="breach_ends_after"
            ),
        ]
        indexes = [models.Index(fields=["unit", "-began_at"], name="breach_unit")]

    def __str__(self) -> str:
        return f"{self.unit_id} {self.began_at}"


class DoubleHolder(models.Model):
    """Two live agents of one seat, as hosts with valid leases told of them. There must be none."""

    UNIT: ClassVar[str] = "unit_id"

    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.CASCADE)
    seat = models.ForeignKey(Seat, verbose_name=_("seat"), on_delete=models.CASCADE, related_name="+")
    generation = models.PositiveIntegerField(_("generation in office"))
    other = models.PositiveIntegerField(_("generation that is live beside it"))
    host = models.CharField(_("host"), max_length=100)
    epoch = models.BigIntegerField(_("epoch"))
    first_at = models.DateTimeField(_("first seen"))
    last_at = models.DateTimeField(_("last seen"))
    reports = models.PositiveIntegerField(_("reports that say so"), default=1)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("seat with two live agents")
        verbose_name_plural = _("seats with two live agents")
        constraints = [models.UniqueConstraint(fields=["seat", "generation", "other"], name="double_holder_once")]
        indexes = [models.Index(fields=["unit", "-last_at"], name="double_holder_unit")]

    def __str__(self) -> str:
        return f"{self.seat_id} g{self.generation} g{self.other}"


class ServiceLevel(models.Model):
    """The service levels of a unit (none: of the holding) over a span of time, as last computed."""

    UNIT: ClassVar[str] = "unit_id"

    class Span(models.TextChoices):
        DAY = "24h", _("24 hours")
        WEEK = "7d", _("7 days")
        MONTH = "30d", _("30 days")

    unit = models.ForeignKey(Unit, verbose_name=_("unit"), null=True, on_delete=models.CASCADE)
    span = models.CharField(_("span"), max_length=3, choices=Span)
    as_of = models.DateTimeField(_("as of"))
    replaced = models.PositiveIntegerField(_("replacements"))
    waiting = models.PositiveIntegerField(_("not live yet"))
    short_lived = models.PositiveIntegerField(_("that did not last"))
    detect_p50 = models.FloatField(_("detection, median (s)"), null=True)
    detect_p95 = models.FloatField(_("detection, 95 % (s)"), null=True)
    detect_max = models.FloatField(_("detection, longest (s)"), null=True)
    restore_p50 = models.FloatField(_("restored, median (s)"), null=True)
    restore_p95 = models.FloatField(_("restored, 95 % (s)"), null=True)
    restore_max = models.FloatField(_("restored, longest (s)"), null=True)
    seconds_below = models.FloatField(_("seconds below the floor"))
    duplicates = models.PositiveIntegerField(_("seats with two live agents"))
    brakes = models.PositiveIntegerField(_("brakes applied"))
    cost = models.DecimalField(_("cost of the replacements"), max_digits=16, decimal_places=4)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("service level")
        verbose_name_plural = _("service levels")
        constraints = [
            models.UniqueConstraint(fields=["unit", "span"], nulls_distinct=False, name="service_level_once")
        ]

    def __str__(self) -> str:
        return f"{self.unit_id} {self.span}"
