"""The delegation of authority matrix: matters, offices, and the rules of each version."""

from datetime import datetime
from decimal import Decimal

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeBoundary, RangeOperators
from django.db import models
from django.db.models import F, Func, Q
from django.utils.translation import gettext_lazy as _

from holding.models import SLUG, Named

ENVELOPE = "agent-envelope"  # the office of what software may do without asking a person


class TsTzRange(Func):
    """A range of times, closed at its beginning and open at its end."""

    function = "TSTZRANGE"
    output_field = DateTimeRangeField()


class Matter(Named):
    """Something that is decided. All but its names and times is fixed: old versions are judged by it too."""

    class Measure(models.TextChoices):
        AMOUNT = "amount", _("amount in EUR")
        PERCENT = "percent", _("percent")
        LEVEL = "level", _("level")
        COUNT = "count", _("count")

    slug = models.CharField(_("slug"), max_length=24, unique=True)
    measure = models.CharField(_("measure"), max_length=8, choices=Measure)
    reserved = models.BooleanField(_("reserved to the board"), default=False)
    anti_splitting = models.BooleanField(_("values of 30 days are added up"), default=False)
    sla_hours = models.PositiveIntegerField(_("hours until it goes to the next rank"))
    expiry_hours = models.PositiveIntegerField(_("hours until it expires"))
    position = models.PositiveSmallIntegerField(_("position"))

    class Meta:
        verbose_name = _("matter")
        verbose_name_plural = _("matters")
        ordering = ["position"]
        constraints = [
            models.CheckConstraint(condition=Q(slug__regex=SLUG), name="matter_slug"),
            models.CheckConstraint(
                condition=Q(sla_hours__gte=1, expiry_hours__gte=F("sla_hours")), name="matter_times"
            ),
        ]


class Office(Named):
    """Who may hold authority. Offices of one rank stand side by side; the matter says which of them decides."""

    class Scope(models.TextChoices):
        UNIT = "unit", _("one unit")
        GROUP = "group", _("the group")
        BODY = "body", _("a body that votes")

    slug = models.CharField(_("slug"), max_length=24, unique=True)
    scope = models.CharField(_("scope"), max_length=5, choices=Scope)
    rank = models.PositiveSmallIntegerField(_("rank"))

    class Meta:
        verbose_name = _("office")
        verbose_name_plural = _("offices")
        ordering = ["rank", "slug"]
        constraints = [models.CheckConstraint(condition=Q(slug__regex=SLUG), name="office_slug")]


class MatrixVersionQuerySet(models.QuerySet["MatrixVersion"]):
    """Reads of versions."""

    def in_force(self, at: datetime) -> "MatrixVersionQuerySet":
        """Return the version in force at that time: one, or none before the first."""
        return self.exclude(status=MatrixVersion.Status.DRAFT).filter(
            Q(valid_to=None) | Q(valid_to__gt=at), valid_from__lte=at
        )


class MatrixVersion(models.Model):
    """One text of the matrix. Once adopted it never changes (migration 0002), so the past can be judged again."""

    class Status(models.TextChoices):
        DRAFT = "draft", _("draft")
        ADOPTED = "adopted", _("adopted")
        SUPERSEDED = "superseded", _("superseded")

    number = models.PositiveIntegerField(_("number"), unique=True)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.DRAFT)
    valid_from = models.DateTimeField(_("in force from"), null=True)
    valid_to = models.DateTimeField(_("in force until"), null=True)
    author = models.CharField(_("author"), max_length=200)
    approver = models.CharField(_("approver"), max_length=200, blank=True)  # a person, or a resolution's number
    reason = models.CharField(_("reason"), max_length=200, blank=True)
    digest = models.CharField(_("digest of the rules"), max_length=64)
    created_at = models.DateTimeField(_("created at"))

    objects = MatrixVersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("version of the matrix")
        verbose_name_plural = _("versions of the matrix")
        ordering = ["-number"]
        constraints = [
            models.CheckConstraint(condition=~Q(author=F("approver")), name="matrix_two_people"),
            models.CheckConstraint(
                condition=Q(status="draft", valid_from=None, valid_to=None, approver="")
                | (Q(status="adopted", valid_from__isnull=False, valid_to=None) & ~Q(approver=""))
                | (Q(status="superseded", valid_to__gt=F("valid_from")) & ~Q(approver="")),
                name="matrix_status",
            ),
            ExclusionConstraint(
                name="matrix_one_in_force",
                expressions=[(TsTzRange("valid_from", "valid_to", RangeBoundary()), RangeOperators.OVERLAPS)],
                condition=~Q(status="draft"),
            ),
        ]

    def __str__(self) -> str:
        return f"v{self.number}"


class RuleQuerySet(models.QuerySet["Rule"]):
    """Reads of rules."""

    def covering(self, version: MatrixVersion, matter: Matter, value: Decimal) -> "RuleQuerySet":
        """Return the rules whose limit covers the value, lowest office first: the first one decides."""
        return (
            self.filter(Q(limit=None) | Q(limit__gte=value), version=version, matter=matter)
            .select_related("office")
            .order_by("office__rank")
        )


class Rule(models.Model):
    """Up to which value an office decides a matter. `required` is how many of its holders; None: their majority."""

    version = models.ForeignKey(
        MatrixVersion, verbose_name=_("version"), on_delete=models.CASCADE, related_name="rules"
    )
    matter = models.ForeignKey(Matter, verbose_name=_("matter"), on_delete=models.PROTECT)
    office = models.ForeignKey(Office, verbose_name=_("office"), on_delete=models.PROTECT)
    limit = models.DecimalField(_("limit"), max_digits=20, decimal_places=4, null=True)  # None: without limit
    required = models.PositiveSmallIntegerField(_("holders required"), null=True, default=1)

    objects = RuleQuerySet.as_manager()

    class Meta:
        verbose_name = _("rule")
        verbose_name_plural = _("rules")
        ordering = ["version", "matter__position", "office__rank"]
        constraints = [
            models.UniqueConstraint(fields=["version", "matter", "office"], name="rule_once"),
            models.CheckConstraint(condition=Q(limit=None) | Q(limit__gte=0), name="rule_limit"),
            models.CheckConstraint(condition=Q(required=None) | Q(required__gte=1), name="rule_required"),
        ]

    def __str__(self) -> str:
        return f"{self.matter_id} {self.office_id} {self.limit}"
