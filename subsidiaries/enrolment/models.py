"""A seat that is offered to, or held by, an agent with a connection of its own."""

from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from holding.models import Agent, Seat, Unit
from holding.scope import ScopedManager

SILENT_AFTER = timedelta(seconds=15)  # three presence intervals, as for divisions


class EnrolmentQuerySet(models.QuerySet["Enrolment"]):
    """Reads of enrolments."""

    def offered(self, now: datetime) -> "EnrolmentQuerySet":
        """Return those whose token can be exchanged."""
        return self.filter(used_at=None, ended_at=None, expires_at__gt=now)

    def held(self) -> "EnrolmentQuerySet":
        """Return those whose agent holds its seat."""
        return self.filter(used_at__isnull=False, ended_at=None)

    def for_listing(self) -> "EnrolmentQuerySet":
        """Return enrolments with what a list shows of them."""
        return self.select_related("unit", "seat__role", "seat__body", "seat__division", "seat__unit", "agent")


class Enrolment(models.Model):
    """One seat, one token, and then one agent: offered, held, ended."""

    UNIT: ClassVar[str] = "unit_id"

    class State(models.TextChoices):
        OFFERED = "offered", _("offered")
        EXPIRED = "expired", _("expired")
        WAITING = "waiting", _("waiting for the agent")
        LIVE = "live", _("live")
        SILENT = "silent", _("silent")
        ENDED = "ended", _("ended")

    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    seat = models.ForeignKey(Seat, verbose_name=_("seat"), on_delete=models.PROTECT, related_name="enrolments")
    digest = models.CharField(_("digest of the token"), max_length=64, unique=True)
    actor = models.CharField(_("enrolled by"), max_length=200)
    reason = models.CharField(_("reason"), max_length=200)
    created_at = models.DateTimeField(_("enrolled at"))
    expires_at = models.DateTimeField(_("token counts until"))
    used_at = models.DateTimeField(_("token used at"), null=True)
    agent = models.OneToOneField(
        Agent, verbose_name=_("agent"), null=True, on_delete=models.PROTECT, related_name="enrolment"
    )
    public_key = models.CharField(_("public key"), max_length=60, blank=True)
    credential_until = models.DateTimeField(_("credential counts until"), null=True)
    # What its own messages say of it.
    epoch = models.BigIntegerField(_("epoch"), default=0)
    seen_at = models.DateTimeField(_("last heard of"), null=True)
    reported_at = models.DateTimeField(_("time of the last report"), null=True)
    name = models.CharField(_("name"), max_length=100, blank=True)
    version = models.CharField(_("version"), max_length=100, blank=True)
    language = models.CharField(_("language"), max_length=100, blank=True)
    ended_at = models.DateTimeField(_("ended at"), null=True)
    ended_by = models.CharField(_("ended by"), max_length=200, blank=True)
    revoked_at = models.DateTimeField(_("credential revoked at"), null=True)

    objects = ScopedManager.from_queryset(EnrolmentQuerySet)()

    class Meta:
        verbose_name = _("enrolment")
        verbose_name_plural = _("enrolments")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["seat"], condition=Q(ended_at=None), name="enrolment_one_open"),
            models.CheckConstraint(
                condition=Q(used_at=None, agent=None, epoch=0) | Q(used_at__isnull=False, agent__isnull=False),
                name="enrolment_used_has_an_agent",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="enrolment_token_counts_for_a_time"
            ),
        ]
        indexes = [
            models.Index(fields=["unit", "-id"], name="enrolment_unit"),
            models.Index(
                fields=["id"],
                name="enrolment_to_revoke",
                condition=Q(ended_at__isnull=False, revoked_at=None) & ~Q(public_key=""),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.seat_id} #{self.pk}"

    def state_at(self, now: datetime) -> State:
        """Return what is to be said of it at that time."""
        if self.ended_at is not None:
            return self.State.ENDED
        if self.used_at is None:
            return self.State.OFFERED if self.expires_at > now else self.State.EXPIRED
        if self.seen_at is None:
            return self.State.WAITING
        return self.State.LIVE if self.seen_at >= now - SILENT_AFTER else self.State.SILENT
