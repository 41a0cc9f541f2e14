"""Commands, and what became of each of them in every division that it is about."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models
from django.db.models import Case, Count, F, Q, Sum, Value, When
from django.utils.translation import gettext_lazy as _

from holding.models import Division, Role, Seat, Unit
from holding.scope import ScopedManager

REASON_LENGTH = 500


class CommandQuerySet(models.QuerySet["Command"]):
    """Reads of commands."""

    def for_listing(self) -> "CommandQuerySet":
        """Return commands with what a list shows of them."""
        return self.select_related("unit", "division", "role", "seat__unit", "lifted_by")

    def going(self) -> "CommandQuerySet":
        """Return the commands that are still at work, or wait for a person."""
        return self.filter(state__in=Command.GOING)


class Command(models.Model):
    """An order of a person: what shall be done, about whom, why, how fast, and when to stop by itself.

    An order about the whole holding, a role everywhere or a host belongs to the parent company (`scope` tells it
    from one about the parent company's own agents).
    """

    UNIT: ClassVar[str] = "unit_id"

    class Verb(models.TextChoices):
        PAUSE = "pause", _("pause")
        RESUME = "resume", _("resume")
        DRAIN = "drain", _("hand over to another host")
        RETIRE = "retire", _("retire")
        CONFIG = "config", _("settings of hosts")
        REPORT = "report", _("full report")

    class Scope(models.TextChoices):
        ALL = "all", _("the whole holding")
        UNIT = "unit", _("a unit")
        DIVISION = "division", _("a division")
        AGENT = "agent", _("one agent")
        HOST = "host", _("what a host runs")

    class State(models.TextChoices):
        ROLLING_OUT = "rolling-out", _("rolling out")
        HALTED = "halted", _("halted")
        CONFIRMED = "confirmed", _("confirmed everywhere")
        INCOMPLETE = "incomplete", _("ended, not everywhere")
        ABORTED = "aborted", _("aborted")
        SUPERSEDED = "superseded", _("superseded")
        LIFTED = "lifted", _("lifted")

    GOING: ClassVar[tuple[str, ...]] = (State.ROLLING_OUT.value, State.HALTED.value)
    STANDING: ClassVar[tuple[str, ...]] = (Verb.PAUSE.value, Verb.RETIRE.value)  # hold until they are lifted

    verb = models.CharField(_("command"), max_length=8, choices=Verb)
    scope = models.CharField(_("about"), max_length=8, choices=Scope)
    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    division = models.ForeignKey(Division, verbose_name=_("division"), null=True, on_delete=models.PROTECT)
    role = models.ForeignKey(Role, verbose_name=_("role"), null=True, on_delete=models.PROTECT)
    seat = models.ForeignKey(Seat, verbose_name=_("seat"), null=True, on_delete=models.PROTECT)
    host = models.CharField(_("host"), max_length=100, blank=True)
    settings = models.JSONField(_("settings"), default=dict, blank=True)
    reason = models.CharField(_("reason"), max_length=REASON_LENGTH)
    actor = models.CharField(_("ordered by"), max_length=200)
    key = models.CharField(_("key"), max_length=120, unique=True)
    agents = models.PositiveIntegerField(_("agents"))
    created_at = models.DateTimeField(_("ordered at"))
    patience_s = models.PositiveIntegerField(_("seconds to obey, for each step"))
    percent = models.PositiveSmallIntegerField(_("share of each step (%)"), default=100)
    halt_above = models.PositiveSmallIntegerField(_("halt above this failure rate (%)"), default=0)
    reached = models.PositiveSmallIntegerField(_("share begun (%)"), default=0)
    accepted = models.PositiveIntegerField(_("failures that a person has accepted"), default=0)
    state = models.CharField(_("state"), max_length=12, choices=State, default=State.ROLLING_OUT)
    changed_at = models.DateTimeField(_("in this state since"))
    lifted_by = models.ForeignKey(
        "self", verbose_name=_("lifted by"), null=True, on_delete=models.PROTECT, related_name="lifted"
    )

    objects = ScopedManager.from_queryset(CommandQuerySet)()

    class Meta:
        verbose_name = _("command")
        verbose_name_plural = _("commands")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(percent__gte=1, percent__lte=100), name="command_percent"),
            models.CheckConstraint(condition=Q(halt_above__lte=100, reached__lte=100), name="command_shares"),
            models.CheckConstraint(condition=~Q(reason=""), name="command_has_reason"),
            models.CheckConstraint(
                condition=Q(scope="all", division=None, seat=None, host="")
                | Q(scope="unit", division=None, seat=None, host="")
                | Q(scope="division", division__isnull=False, seat=None, host="")
                | Q(scope="agent", division__isnull=False, seat__isnull=False, host="")
                | (Q(scope="host", division=None, seat=None, role=None) & ~Q(host="")),
                name="command_scope",
            ),
        ]
        indexes = [
            models.Index(fields=["unit", "-id"], name="command_of_unit"),
            models.Index(fields=["id"], name="command_going", condition=Q(state__in=("rolling-out", "halted"))),
        ]

    def __str__(self) -> str:
        return f"{self.verb} #{self.pk}"

    @property
    def whole(self) -> bool:
        """Whether the order is about more than one unit."""
        return self.scope in (self.Scope.ALL, self.Scope.HOST)

    @property
    def stands(self) -> bool:
        """Whether the order is one that holds until it is lifted, and has not been."""
        return self.verb in self.STANDING and self.state != self.State.LIFTED


class TargetQuerySet(models.QuerySet["Target"]):
    """Reads of targets."""

    def as_of(self, now: datetime) -> "TargetQuerySet":
        """Annotate each with `state_now`: what was not obeyed in time has expired, whether noted yet or not."""
        return self.annotate(
            state_now=Case(
                When(state=Target.State.SENT, due_at__lt=now, then=Value(Target.State.EXPIRED.value)),
                default=F("state"),
                output_field=models.CharField(),
            )
        )

    def counted(self, now: datetime, *, of: Collection[int]) -> "dict[int, Counts]":
        """Return the counts of each command of `of`, by its id."""
        counts = {pk: Counts() for pk in of}
        rows = (
            self.filter(command_id__in=list(of))
            .as_of(now)
            .order_by()
            .values_list("command_id", "state_now")  # type: ignore[misc]  # is annotated
            .annotate(
                n=Count("pk"), agents=Sum("agents"), sent=Count("sent_at"),
                late=Count("acknowledged_at", filter=~Q(state=Target.State.ACKNOWLEDGED)),
            )
        )  # fmt: skip
        for command, state, n, agents, sent, late in rows:
            counts[command].add(state, n, agents, sent, late)
        return counts


class Counts:
    """How many divisions of a command, and agents in them, are in which state; how many were sent to, and late."""

    def __init__(self) -> None:
        self.divisions: dict[str, int] = dict.fromkeys(Target.State.values, 0)
        self.agents: dict[str, int] = dict.fromkeys(Target.State.values, 0)
        self.sent = 0
        self.late = 0

    def add(self, state: str, divisions: int, agents: int, sent: int, late: int) -> None:
        """Add a row of the count."""
        self.divisions[state] += divisions
        self.agents[state] += agents
        self.sent += sent
        self.late += late

    @property
    def total(self) -> int:
        """All divisions that the command is about."""
        return sum(self.divisions.values())

    @property
    def acknowledged(self) -> int:
        """Divisions that have obeyed."""
        return self.divisions["acknowledged"]

    @property
    def refused(self) -> int:
        """Divisions whose host cannot obey, and says why."""
        return self.divisions["refused"]

    @property
    def expired(self) -> int:
        """Divisions that did not obey in time."""
        return self.divisions["expired"]

    @property
    def open(self) -> int:
        """Divisions whose answer is awaited."""
        return self.divisions["sent"]

    @property
    def waiting(self) -> int:
        """Divisions whose step has not come."""
        return self.divisions["waiting"]

    @property
    def failed(self) -> int:
        """Divisions that refused or did not obey in time."""
        return self.refused + self.expired

    def failure_rate(self, accepted: int = 0) -> float:
        """The failed ones among those begun, in per cent; without those that a person has accepted."""
        begun = self.acknowledged + self.failed + self.open - accepted
        return 100 * max(self.failed - accepted, 0) / begun if begun > 0 else 0.0


class Target(models.Model):
    """A command in one division: when it was sent, until when it is to be obeyed, and what became of it."""

    UNIT: ClassVar[str] = "unit_id"

    class State(models.TextChoices):
        WAITING = "waiting", _("its step has not come")
        SENT = "sent", _("sent")
        ACKNOWLEDGED = "acknowledged", _("obeyed")
        REFUSED = "refused", _("refused")
        EXPIRED = "expired", _("not obeyed in time")
        DROPPED = "dropped", _("not sent")

    GRACE: ClassVar[timedelta] = timedelta(seconds=5)  # after its time until a target's end is noted, at most

    command = models.ForeignKey(
        Command, verbose_name=_("command"), on_delete=models.PROTECT, related_name="targets"
    )
    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    division = models.ForeignKey(Division, verbose_name=_("division"), on_delete=models.PROTECT)
    place = models.PositiveIntegerField(_("place in the roll-out"))
    agents = models.PositiveIntegerField(_("agents"))
    state = models.CharField(_("state"), max_length=12, choices=State, default=State.WAITING)
    generation = models.PositiveIntegerField(_("manifest wanted"), null=True)
    epoch = models.BigIntegerField(_("epoch when it was ordered"), null=True)
    message = models.CharField(_("message id"), max_length=200, blank=True)
    begun_at = models.DateTimeField(_("begun at"), null=True)
    due_at = models.DateTimeField(_("to be obeyed until"), null=True)
    sent_at = models.DateTimeField(_("sent at"), null=True)
    acknowledged_at = models.DateTimeField(_("obeyed at"), null=True)
    words = models.CharField(_("words of the host"), max_length=500, blank=True)

    objects = ScopedManager.from_queryset(TargetQuerySet)()

    class Meta:
        verbose_name = _("target")
        verbose_name_plural = _("targets")
        ordering = ["command", "place"]
        constraints = [
            models.UniqueConstraint(fields=["command", "division"], name="target_once"),
            models.CheckConstraint(
                condition=Q(state__in=("waiting", "dropped")) | Q(begun_at__isnull=False, due_at__isnull=False),
                name="target_begun_has_an_end",
            ),
        ]
        indexes = [
            models.Index(
                fields=["division"],
                name="target_unheard",
                condition=Q(acknowledged_at=None, state__in=("sent", "refused", "expired")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.command_id} {self.division_id} {self.state}"
