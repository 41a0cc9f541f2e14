"""The structure of the group. A seat is permanent; an agent occupies it for a time, under a generation."""

from typing import ClassVar

from django.db import models
from django.db.models import Case, Exists, ExpressionWrapper, F, OuterRef, Q, Value, When
from django.db.models.functions import Mod
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from holding.lifecycle import ENDED, SeatStage, Stage
from holding.scope import ScopedManager

SLUG = r"^[a-z][a-z0-9-]{1,22}[a-z0-9]$"
AGENT_ID = r"^(di|co|es|in|op)-[0-9]{4,7}-g[0-9]{1,6}$"
SUBJECT_ROOT = "org.claytom"
FIRST_TEMPORARY = 900_001  # ordinals from here on are of temporary seats


class Named(models.Model):
    """Something with a name in Spanish and in English."""

    name_es = models.CharField(_("name (Spanish)"), max_length=100)
    name_en = models.CharField(_("name (English)"), max_length=100)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The name in the language of the current request."""
        return self.name_en if (get_language() or "").startswith("en") else self.name_es


class Holding(models.Model):
    """The parent company's identity: one row."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    code = models.CharField(_("project code"), max_length=40)
    name = models.CharField(_("name"), max_length=100)
    subject_root = models.CharField(_("root of subjects"), max_length=60)
    domain = models.CharField(_("domain"), max_length=100)
    clearance_names = models.JSONField(_("clearance"))  # {"es": ..., "en": ...}
    floor = models.PositiveIntegerField(_("floor of each subsidiary"))
    scaled = models.BooleanField(_("quotas scaled down"), default=False)
    source_digest = models.CharField(_("digest of the loaded file"), max_length=64)
    source = models.JSONField(_("loaded file"))
    loaded_at = models.DateTimeField(_("loaded at"))

    class Meta:
        verbose_name = _("holding")
        verbose_name_plural = _("holding")
        constraints = [models.CheckConstraint(condition=Q(id=1), name="holding_is_one")]

    def __str__(self) -> str:
        return self.name

    @property
    def clearance(self) -> str:
        """The clearance in the language of the current request."""
        language = "en" if (get_language() or "").startswith("en") else "es"
        return str(self.clearance_names[language])


class Sector(Named):
    """A group of five subsidiaries. Prefixed `sector-` in URLs, since some sectors share a subsidiary's slug."""

    slug = models.CharField(_("slug"), max_length=24, unique=True)
    archetype = models.CharField(_("financial archetype"), max_length=24)
    position = models.PositiveSmallIntegerField(_("position"))

    class Meta:
        verbose_name = _("sector")
        verbose_name_plural = _("sectors")
        ordering = ["position"]


class UnitQuerySet(models.QuerySet["Unit"]):
    """Reads of units."""

    def subsidiaries(self) -> "UnitQuerySet":
        """Return the 35 subsidiaries in the holding's order, with their sectors."""
        return self.filter(kind=Unit.Kind.SUBSIDIARY).select_related("sector").order_by("position")


class Unit(Named):
    """The corporate unit (`corporate`) or a subsidiary. Slugs are identities: never renamed, never deleted."""

    UNIT: ClassVar[str] = "id"

    class Kind(models.TextChoices):
        CORPORATE = "corporate", _("Parent company")
        SUBSIDIARY = "subsidiary", _("Subsidiary")

    kind = models.CharField(_("kind"), max_length=12, choices=Kind)
    slug = models.CharField(_("slug"), max_length=24, unique=True)
    sector = models.ForeignKey(Sector, verbose_name=_("sector"), null=True, on_delete=models.PROTECT)
    parent = models.ForeignKey("self", verbose_name=_("parent"), null=True, on_delete=models.PROTECT)
    position = models.PositiveSmallIntegerField(_("position"))
    work = models.CharField(_("kind of work"), max_length=24, blank=True)
    floor = models.PositiveIntegerField(_("floor"))

    objects = ScopedManager.from_queryset(UnitQuerySet)()

    class Meta:
        verbose_name = _("unit")
        verbose_name_plural = _("units")
        ordering = ["position"]
        constraints = [
            models.CheckConstraint(condition=Q(slug__regex=SLUG), name="unit_slug"),
            models.CheckConstraint(
                condition=Q(kind="corporate", slug="corporate", sector=None, parent=None)
                | (Q(kind="subsidiary", sector__isnull=False, parent__isnull=False) & ~Q(slug="corporate")),
                name="unit_kind",
            ),
        ]

    @property
    def namespace(self) -> str:
        """The namespace of its access and its deployment: `holding`, or `subs-<slug>`."""
        return "holding" if self.kind == self.Kind.CORPORATE else f"subs-{self.slug}"


class Body(Named):
    """A body of the parent company: founders, C-suite, governance, architecture, PMO, R&D."""

    slug = models.CharField(_("slug"), max_length=24, unique=True)
    position = models.PositiveSmallIntegerField(_("position"))

    class Meta:
        verbose_name = _("body")
        verbose_name_plural = _("bodies")
        ordering = ["position"]
        constraints = [models.CheckConstraint(condition=Q(slug__regex=SLUG), name="body_slug")]


class Role(Named):
    """A role of subsidiaries, with its tier and its quota."""

    class Tier(models.TextChoices):
        L4 = "L4", _("L4 management")
        L3 = "L3", _("L3 coordination")
        L2 = "L2", _("L2 specialists and innovators")
        L1 = "L1", _("L1 operators")

    slug = models.CharField(_("slug"), max_length=24, unique=True)
    code = models.CharField(_("code"), max_length=2, unique=True)
    tier = models.CharField(_("tier"), max_length=2, choices=Tier)
    count = models.PositiveIntegerField(_("seats per subsidiary"))
    per_division = models.PositiveIntegerField(_("seats per division"))
    position = models.PositiveSmallIntegerField(_("position"))

    class Meta:
        verbose_name = _("role")
        verbose_name_plural = _("roles")
        ordering = ["position"]


class Division(models.Model):
    """A shard of a unit: 300 seats of a subsidiary, or the seats of one corporate body. Lease and training unit."""

    UNIT: ClassVar[str] = "unit_id"

    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    body = models.OneToOneField(Body, verbose_name=_("body"), null=True, on_delete=models.PROTECT)
    code = models.CharField(_("code"), max_length=24)
    key = models.CharField(_("key"), max_length=50, unique=True)
    manifest_generation = models.PositiveIntegerField(_("manifest generation"), default=0)
    # What the newest manifest wants, for comparison with what hosts report.
    wanted_running = models.PositiveIntegerField(_("agents that shall run"), default=0)
    wanted_paused = models.PositiveIntegerField(_("agents that shall be paused"), default=0)
    settings = models.JSONField(_("settings of its host, where they differ"), default=dict, blank=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("division")
        verbose_name_plural = _("divisions")
        ordering = ["unit__position", "code"]
        constraints = [
            models.UniqueConstraint(fields=["unit", "code"], name="division_code"),
            models.UniqueConstraint(fields=["id", "unit"], name="division_in_unit"),
        ]

    def __str__(self) -> str:
        return self.key


class Blueprint(models.Model):
    """The recipe of the agents of one role or body; its versions say how they are made."""

    slug = models.CharField(_("slug"), max_length=24, unique=True)
    role = models.OneToOneField(Role, verbose_name=_("role"), null=True, on_delete=models.PROTECT)
    body = models.OneToOneField(Body, verbose_name=_("body"), null=True, on_delete=models.PROTECT)

    class Meta:
        verbose_name = _("blueprint")
        verbose_name_plural = _("blueprints")
        constraints = [
            models.CheckConstraint(
                condition=Q(role__isnull=True, body__isnull=False) | Q(role__isnull=False, body__isnull=True),
                name="blueprint_for_role_or_body",
            )
        ]

    def __str__(self) -> str:
        return self.slug


class BlueprintVersionQuerySet(models.QuerySet["BlueprintVersion"]):
    """Reads of blueprint versions."""

    def approved(self) -> "BlueprintVersionQuerySet":
        """Return the versions by which agents may be made."""
        return self.filter(state=BlueprintVersion.State.APPROVED)

    def for_listing(self) -> "BlueprintVersionQuerySet":
        """Return versions with what a list shows of them."""
        return self.select_related("blueprint__role", "blueprint__body")


class BlueprintVersion(models.Model):
    """A version of a blueprint. Its author may edit it while it is a draft; once approved it never changes.

    The database holds that (migration 0010), and that agents are made by approved versions only. A version that
    crash-loops is halted: no further agent is made by it until a person releases it, as long as there is another.
    """

    class State(models.TextChoices):
        DRAFT = "draft", _("draft")
        APPROVED = "approved", _("approved")
        REVOKED = "revoked", _("revoked")
        WITHDRAWN = "withdrawn", _("withdrawn")

    blueprint = models.ForeignKey(
        Blueprint, verbose_name=_("blueprint"), on_delete=models.PROTECT, related_name="versions"
    )
    version = models.PositiveIntegerField(_("version"))
    spec = models.JSONField(_("specification"))
    digest = models.CharField(_("digest"), max_length=64)
    author = models.CharField(_("author"), max_length=200)
    created_at = models.DateTimeField(_("created at"))
    note = models.CharField(_("what it is for"), max_length=500, blank=True, default="")
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.DRAFT)
    approved_at = models.DateTimeField(_("approved at"), null=True)
    approved_by = models.CharField(_("approved by"), max_length=200, blank=True, default="")
    ended_at = models.DateTimeField(_("revoked or withdrawn at"), null=True)
    ended_by = models.CharField(_("revoked or withdrawn by"), max_length=200, blank=True, default="")
    ended_why = models.CharField(_("why it was revoked or withdrawn"), max_length=500, blank=True, default="")
    halted_at = models.DateTimeField(_("halted at"), null=True)
    halted_why = models.CharField(_("why it is halted"), max_length=500, blank=True, default="")

    objects = BlueprintVersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("blueprint version")
        verbose_name_plural = _("blueprint versions")
        ordering = ["blueprint", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["blueprint", "version"], name="blueprint_version"),
            models.CheckConstraint(condition=Q(digest__regex="^[0-9a-f]{64}$"), name="blueprint_version_digest"),
            models.CheckConstraint(
                condition=Q(state__in=("draft", "withdrawn"), approved_at=None, approved_by="")
                | (Q(state__in=("approved", "revoked"), approved_at__isnull=False) & ~Q(approved_by="")),
                name="blueprint_version_approved",
            ),
            models.CheckConstraint(condition=~Q(approved_by=F("author")), name="blueprint_version_four_eyes"),
            models.CheckConstraint(
                condition=Q(state__in=("draft", "approved"), ended_at=None)
                | Q(state__in=("revoked", "withdrawn"), ended_at__isnull=False),
                name="blueprint_version_ended",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.blueprint.slug} v{self.version}"

    @property
    def good(self) -> bool:
        """Whether further agents may be made by it: it is approved and not halted."""
        return self.state == self.State.APPROVED and self.halted_at is None


class Suspension(models.Model):
    """A standing order about seats of a division: paused, or vacant. It holds until it is lifted.

    It is about all seats of the division, or of one role, or about one seat; of these about the share (per cent)
    that `SPREAD` picks. Of several orders about a seat the strictest counts: it runs when the last one is lifted.
    """

    UNIT: ClassVar[str] = "unit_id"
    # The same seats for the same order whenever it is asked; of a hundred seats in a row exactly the share.
    SPREAD: ClassVar[tuple[int, int, int]] = (37, 61, 100)

    class Desired(models.TextChoices):
        PAUSED = "paused", _("paused")
        RETIRED = "retired", _("retired")

    unit = models.ForeignKey(Unit, verbose_name=_("unit"), on_delete=models.PROTECT)
    division = models.ForeignKey(
        Division, verbose_name=_("division"), on_delete=models.PROTECT, related_name="suspensions"
    )
    role = models.ForeignKey(Role, verbose_name=_("role"), null=True, on_delete=models.PROTECT)
    seat = models.ForeignKey("Seat", verbose_name=_("seat"), null=True, on_delete=models.PROTECT)
    share = models.PositiveSmallIntegerField(_("share of the seats (%)"), default=100)
    desired = models.CharField(_("desired state"), max_length=8, choices=Desired)
    order = models.BigIntegerField(_("command"))  # below zero: an isolated agent, and no command
    actor = models.CharField(_("ordered by"), max_length=200)
    reason = models.CharField(_("reason"), max_length=500)
    since = models.DateTimeField(_("since"))

    objects = ScopedManager()

    class Meta:
        verbose_name = _("suspension")
        verbose_name_plural = _("suspensions")
        ordering = ["order", "division"]
        constraints = [
            models.UniqueConstraint(fields=["order", "division"], name="suspension_once"),
            models.CheckConstraint(condition=Q(share__gte=1, share__lte=100), name="suspension_share"),
        ]

    def __str__(self) -> str:
        return f"{self.desired} {self.division_id} #{self.order}"

    def covers(self, *, role_id: int | None, seat_id: int, ordinal: int) -> bool:
        """Return whether the order is about this seat of its division."""
        if self.seat_id is not None:
            return self.seat_id == seat_id
        if self.role_id is not None and self.role_id != role_id:
            return False
        by_seat, by_order, parts = self.SPREAD
        return (ordinal * by_seat + self.order * by_order) % parts < self.share


class SeatQuerySet(models.QuerySet["Seat"]):
    """Reads of seats."""

    def with_desired(self) -> "SeatQuerySet":
        """Annotate each seat with `desired`: what it shall do by the standing orders, `run` when there is none."""
        by_seat, by_order, parts = Suspension.SPREAD
        place = Mod(OuterRef("ordinal") * by_seat + F("order") * by_order, Value(parts))
        shared = ExpressionWrapper(place, output_field=models.BigIntegerField())
        orders = Suspension.objects.annotate(place=shared).filter(
            Q(seat=OuterRef("pk")) | Q(seat=None, place__lt=F("share")) & (Q(role=None) | Q(role=OuterRef("role"))),
            division=OuterRef("division"),
        )
        return self.annotate(
            desired=Case(
                When(Exists(orders.filter(desired=Suspension.Desired.RETIRED)), then=Value("retired")),
                When(Exists(orders), then=Value("paused")),
                default=Value("run"),
                output_field=models.CharField(),
            )
        )

    def open(self) -> "SeatQuerySet":
        """Return the seats that are not closed; a closed one is kept, with its history."""
        return self.filter(closed_at=None)

    def established(self) -> "SeatQuerySet":
        """Return the open seats of the establishment: without the temporary ones of rollouts (`holding.surge`)."""
        return self.open().filter(ordinal__lt=FIRST_TEMPORARY)

    def for_listing(self) -> "SeatQuerySet":
        """Return seats with what a list shows of them."""
        return self.select_related("unit", "role", "body", "division")


class Seat(models.Model):
    """A permanent position: role (or body), ordinal, division, superior. Its generation counts its agents."""

    UNIT: ClassVar[str] = "unit_id"

    class Desired(models.TextChoices):
        RUN = "run", _("run")
        PAUSED = "paused", _("paused")
        RETIRED = "retired", _("retired")

    # Its unit is its division's: one key over both (migration 0003); (unit, ordinal) and (division, code) find it.
    unit = models.ForeignKey(
        Unit, verbose_name=_("unit"), on_delete=models.PROTECT, db_constraint=False, db_index=False
    )
    role = models.ForeignKey(Role, verbose_name=_("role"), null=True, on_delete=models.PROTECT)
    body = models.ForeignKey(Body, verbose_name=_("body"), null=True, on_delete=models.PROTECT, db_index=False)
    division = models.ForeignKey(
        Division, verbose_name=_("division"), on_delete=models.PROTECT, db_constraint=False, db_index=False
    )
    ordinal = models.PositiveIntegerField(_("ordinal"))
    code = models.CharField(_("code"), max_length=30)  # op-0042, or the slug of a corporate seat
    name_es = models.CharField(_("name (Spanish)"), max_length=100, blank=True)
    name_en = models.CharField(_("name (English)"), max_length=100, blank=True)
    duty = models.CharField(_("duty"), max_length=200, blank=True)
    reports_to = models.ForeignKey(
        "self", verbose_name=_("reports to"), null=True, on_delete=models.PROTECT, related_name="reports"
    )
    generation = models.PositiveIntegerField(_("generation"), default=1)
    # Held by an agent with a connection of its own: no host runs it, and ARP does not replace it.
    external = models.BooleanField(_("external"), db_default=False, default=False)
    # `staffed` while somebody is in office: a trigger that waits for the commit holds it (migration 0010).
    stage = models.CharField(
        _("stage"), max_length=8, choices=SeatStage, default=SeatStage.STAFFED, db_default=SeatStage.STAFFED
    )
    # A seat beyond the floor that is not needed: nobody holds it, and it is opened again under its next generation.
    closed_at = models.DateTimeField(_("closed at"), null=True, blank=True)

    objects = ScopedManager.from_queryset(SeatQuerySet)()

    class Meta:
        verbose_name = _("seat")
        verbose_name_plural = _("seats")
        constraints = [
            models.UniqueConstraint(fields=["unit", "ordinal"], name="seat_ordinal"),
            models.UniqueConstraint(fields=["division", "code"], name="seat_code"),
            models.UniqueConstraint(fields=["id", "unit"], name="seat_in_unit"),
            models.CheckConstraint(
                condition=Q(role__isnull=True, body__isnull=False) | Q(role__isnull=False, body__isnull=True),
                name="seat_of_role_or_body",
            ),
            models.CheckConstraint(condition=Q(generation__gte=1), name="seat_generation"),
            models.CheckConstraint(condition=~Q(reports_to=F("id")), name="seat_not_own_superior"),
        ]
        indexes = [
            models.Index(fields=["unit", "role", "ordinal"], name="seat_of_role"),
            models.Index(fields=["body"], name="seat_of_body", condition=Q(body__isnull=False)),
            models.Index(fields=["unit"], name="seat_external", condition=Q(external=True)),
            models.Index(fields=["unit", "ordinal"], name="seat_closed", condition=Q(closed_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.unit.slug}/{self.code}"

    @property
    def name(self) -> str:
        """The seat's name in the language of the request, or its code."""
        named = self.name_en if (get_language() or "").startswith("en") else self.name_es
        return named or self.code


class AgentQuerySet(models.QuerySet["Agent"]):
    """Reads of agents."""

    def in_office(self) -> "AgentQuerySet":
        """Return the agents that hold a seat now."""
        return self.filter(retired_at=None)

    def for_listing(self) -> "AgentQuerySet":
        """Return agents with what a list shows of them."""
        return self.select_related("unit", "seat__role", "seat__body", "seat__division")


class Agent(models.Model):
    """One occupant of a seat: identified for ever by its subject (and, on corporate seats, its generation)."""

    UNIT: ClassVar[str] = "unit_id"

    # Its unit is its seat's: one key over both (migration 0003).
    unit = models.ForeignKey(
        Unit, verbose_name=_("unit"), on_delete=models.PROTECT, db_constraint=False, db_index=False
    )
    seat = models.ForeignKey(
        Seat,
        verbose_name=_("seat"),
        on_delete=models.PROTECT,
        related_name="agents",
        db_constraint=False,
        db_index=False,
    )
    generation = models.PositiveIntegerField(_("generation"))
    agent_id = models.CharField(_("agent"), max_length=40)
    subject = models.CharField(_("subject"), max_length=120)
    blueprint = models.ForeignKey(
        BlueprintVersion, verbose_name=_("blueprint"), on_delete=models.PROTECT, db_index=False
    )
    created_at = models.DateTimeField(_("created at"))
    retired_at = models.DateTimeField(_("retired at"), null=True)
    # In no index, and pages have room (migration 0010): all agents go on when the holding starts.
    stage = models.CharField(
        _("stage"), max_length=12, choices=Stage, default=Stage.PROVISIONING, db_default=Stage.PROVISIONING
    )

    objects = ScopedManager.from_queryset(AgentQuerySet)()

    class Meta:
        verbose_name = _("agent")
        verbose_name_plural = _("agents")
        constraints = [
            models.UniqueConstraint(fields=["seat", "generation"], name="agent_generation"),
            models.UniqueConstraint(fields=["seat"], condition=Q(retired_at=None), name="agent_one_per_seat"),
            models.UniqueConstraint(fields=["subject", "generation"], name="agent_identity"),
            models.UniqueConstraint(fields=["id", "seat", "generation"], name="agent_in_seat"),
            models.CheckConstraint(
                condition=Q(subject__startswith="org.claytom.corporate.") | Q(agent_id__regex=AGENT_ID),
                name="agent_id_form",
            ),
            models.CheckConstraint(
                condition=Q(retired_at=None, stage__in=sorted(set(Stage) - ENDED))
                | Q(retired_at__isnull=False, stage__in=sorted(ENDED)),
                name="agent_stage_of_office",
            ),
        ]
        indexes = [
            models.Index(fields=["unit", "id"], name="agent_in_office", condition=Q(retired_at=None)),
        ]

    def __str__(self) -> str:
        return self.agent_id


class Incumbency(models.Model):
    """The time in which an agent holds a seat. At most one is open per seat and per agent."""

    UNIT: ClassVar[str] = "seat__unit_id"

    # Seat and generation are its agent's: one key over all three (migration 0003).
    seat = models.ForeignKey(
        Seat,
        verbose_name=_("seat"),
        on_delete=models.PROTECT,
        related_name="incumbencies",
        db_constraint=False,
        db_index=False,
    )
    agent = models.ForeignKey(
        Agent, verbose_name=_("agent"), on_delete=models.PROTECT, related_name="incumbencies", db_constraint=False
    )
    generation = models.PositiveIntegerField(_("generation"))
    started_at = models.DateTimeField(_("from"))
    ended_at = models.DateTimeField(_("until"), null=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("incumbency")
        verbose_name_plural = _("incumbencies")
        ordering = ["seat", "-generation"]
        constraints = [
            models.UniqueConstraint(fields=["seat"], condition=Q(ended_at=None), name="incumbency_one_per_seat"),
            models.UniqueConstraint(fields=["agent"], condition=Q(ended_at=None), name="incumbency_one_per_agent"),
            models.UniqueConstraint(fields=["seat", "generation"], name="incumbency_generation"),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("started_at")),
                name="incumbency_ends_after_start",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.seat_id} g{self.generation}"


class StageChange(models.Model):
    """An agent, or a seat itself (then without an agent), went on to another stage. Immutable in the database."""

    UNIT: ClassVar[str] = "unit_id"

    # Its unit is its seat's: one key over both (migration 0010).
    unit = models.ForeignKey(
        Unit, verbose_name=_("unit"), on_delete=models.PROTECT, db_constraint=False, db_index=False
    )
    seat = models.ForeignKey(
        Seat,
        verbose_name=_("seat"),
        on_delete=models.PROTECT,
        related_name="stage_changes",
        db_constraint=False,
        db_index=False,
    )
    agent = models.ForeignKey(
        Agent,
        verbose_name=_("agent"),
        null=True,
        on_delete=models.PROTECT,
        related_name="stage_changes",
        db_index=False,
    )
    old = models.CharField(_("from stage"), max_length=12)
    new = models.CharField(_("to stage"), max_length=12)
    at = models.DateTimeField(_("at"))
    actor = models.CharField(_("actor"), max_length=200)
    reason = models.CharField(_("reason"), max_length=200)
    correlation_id = models.CharField(_("correlation"), max_length=100, blank=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("change of stage")
        verbose_name_plural = _("changes of stage")
        ordering = ["-id"]
        indexes = [models.Index(fields=["seat", "id"], name="stage_change_of_seat")]

    def __str__(self) -> str:
        return f"{self.agent_id or self.seat_id} {self.old} > {self.new}"


class Mandate(models.Model):
    """A mandate of the holding (CGF, ARP, TMS, PMON, FIN), its owner and its targets."""

    code = models.CharField(_("code"), max_length=8, unique=True)
    name = models.CharField(_("name"), max_length=100)
    owner_body = models.ForeignKey(Body, verbose_name=_("owning body"), on_delete=models.PROTECT)
    owner_seat = models.ForeignKey(Seat, verbose_name=_("owning seat"), null=True, on_delete=models.PROTECT)
    targets = models.JSONField(_("targets"), default=dict)

    class Meta:
        verbose_name = _("mandate")
        verbose_name_plural = _("mandates")
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.code} {self.name}"


class Architecture(Named):
    """One of the four architectures, which are also the mentoring domains of the executive council."""

    slug = models.CharField(_("slug"), max_length=24, unique=True)
    owner = models.ForeignKey(Seat, verbose_name=_("owner"), on_delete=models.PROTECT)
    position = models.PositiveSmallIntegerField(_("position"))

    class Meta:
        verbose_name = _("architecture")
        verbose_name_plural = _("architectures")
        ordering = ["position"]
