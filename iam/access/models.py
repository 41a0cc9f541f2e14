"""People, what they may do and why, and the tokens of integrations."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from holding import scope
from holding.models import Unit
from iam.access.permissions import PERMISSIONS
from iam.access.usernames import UsernameValidator


class Placed(models.Model):
    """Something for a unit and all below it, or (no unit) for the whole holding."""

    unit: models.ForeignKey[Unit | None, Unit | None]
    unit_id: int | None

    class Meta:
        abstract = True

    @property
    def namespace(self) -> str:
        """The namespace it is for: `holding`, or `subs-<slug>`."""
        if self.unit_id is None:
            return "holding"
        return self.unit.namespace if self.unit else "subs-…"  # its row is out of view


class User(AbstractUser):
    """Who may sign in or call: a person, a service or an agent. Without the clearance, nothing answers."""

    class Kind(models.TextChoices):
        PERSON = "person", _("person")
        SERVICE = "service", _("service account")
        AGENT = "agent", _("agent")

    username_validator = UsernameValidator()
    username = models.CharField(
        _("username"),
        max_length=150,
        unique=True,
        help_text=_("Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only."),
        validators=[username_validator],
        error_messages={"unique": _("A user with that username already exists.")},
    )
    kind = models.CharField(_("kind"), max_length=8, choices=Kind, default=Kind.PERSON)
    owner = models.ForeignKey(
        "self",
        verbose_name=_("answers for it"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="accounts",
        help_text=_("The person who answers for a service account or an agent."),
    )
    cleared = models.BooleanField(
        _("has the holding's clearance"),
        default=False,
        help_text=_("Pages and API answer only to people with the clearance (C-Suite executive access only)."),
    )
    language = models.CharField(
        _("language"), max_length=5, blank=True, choices=[("es", _("Spanish")), ("en", _("English"))]
    )
    time_zone = models.CharField(_("time zone"), max_length=64, blank=True)

    given = scope.NOTHING
    """What the account of a session may do in the request that it makes; of no other account."""

    class Meta:
        verbose_name = _("person")
        verbose_name_plural = _("people")
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="person", owner=None) | (~Q(kind="person") & Q(owner__isnull=False)),
                name="user_owner",
            ),
            models.CheckConstraint(
                condition=Q(kind="person") | Q(is_staff=False, is_superuser=False), name="user_staff"
            ),
            # Links to a new password and the identity provider find people by their address.
            models.UniqueConstraint(Lower("email"), condition=~Q(email=""), name="user_email_once"),
        ]

    @property
    def name(self) -> str:
        """The full name, or the username."""
        return self.get_full_name() or self.username


class AccessRole(models.Model):
    """A named set of permissions (codes of `iam.access.permissions`)."""

    slug = models.SlugField(_("slug"), max_length=40, unique=True)
    name_es = models.CharField(_("name (Spanish)"), max_length=100)
    name_en = models.CharField(_("name (English)"), max_length=100)
    permissions = ArrayField(models.CharField(max_length=40), verbose_name=_("permissions"))
    built_in = models.BooleanField(_("comes with the portal"), default=False)

    class Meta:
        verbose_name = _("role of access")
        verbose_name_plural = _("roles of access")
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The name in the language of the request."""
        return self.name_en if (get_language() or "").startswith("en") else self.name_es


class RoleBindingQuerySet(models.QuerySet["RoleBinding"]):
    """Reads of bindings."""

    def in_force(self, at: datetime | None = None) -> "RoleBindingQuerySet":
        """Return the bindings that count at that time (now): begun, not expired, not revoked."""
        at = at or timezone.now()
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=at), starts_at__lte=at, revoked_at=None)

    def in_view(self) -> "RoleBindingQuerySet":
        """Return the bindings that whoever acts may see: for units where they hold `people.view`.

        Those for the whole holding are shown to whoever holds it for the whole holding.
        """
        rows, people, units = self, scope.current().units("people.view"), scope.current().units()
        if people is not None:
            rows = rows.filter(unit_id__in=people)
        if units is not None:  # the row of a unit out of view is hidden, and with it the unit's name
            rows = rows.filter(Q(unit=None) | Q(unit_id__in=units))
        return rows

    def reaching(self, units: Collection[int]) -> "RoleBindingQuerySet":
        """Return the bindings for one of these units, or for the whole holding."""
        return self.filter(Q(unit=None) | Q(unit_id__in=units))

    def giving(self, code: str) -> "RoleBindingQuerySet":
        """Return the bindings that give a permission; one about the holding needs the whole holding."""
        rows = self.filter(role__permissions__contains=[code])
        return rows.filter(unit=None) if PERMISSIONS[code].wide else rows

    def for_listing(self) -> "RoleBindingQuerySet":
        """Return bindings with what a list shows of them."""
        return self.select_related("user", "role", "unit", "granted_by").order_by(
            "user__username", "role__slug", "id"
        )


class RoleBinding(Placed):
    """A role held by somebody for a unit and all below it, or for the whole holding: from when, until when, why."""

    class Source(models.TextChoices):
        GRANTED = "granted", _("granted by a person")
        CLAIM = "claim", _("group of the identity provider")
        BREAK_GLASS = "break-glass", _("emergency access")
        SYSTEM = "system", _("the portal itself")

    user = models.ForeignKey(User, verbose_name=_("person"), on_delete=models.PROTECT, related_name="bindings")
    role = models.ForeignKey(AccessRole, verbose_name=_("role"), on_delete=models.PROTECT, related_name="bindings")
    unit = models.ForeignKey(
        Unit,
        verbose_name=_("unit"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text=_("Empty: the whole holding."),
    )
    starts_at = models.DateTimeField(_("from"), default=timezone.now)
    expires_at = models.DateTimeField(_("until"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked at"), null=True)
    granted_by = models.ForeignKey(
        User, verbose_name=_("granted by"), null=True, on_delete=models.PROTECT, related_name="granted"
    )
    source = models.CharField(_("source"), max_length=12, choices=Source, default=Source.GRANTED)
    reason = models.CharField(_("reason"), max_length=200, blank=True)

    objects = RoleBindingQuerySet.as_manager()

    class Meta:
        verbose_name = _("role binding")
        verbose_name_plural = _("role bindings")
        constraints = [
            models.CheckConstraint(
                condition=Q(expires_at=None) | Q(expires_at__gt=F("starts_at")), name="binding_ends_after_start"
            ),
            models.CheckConstraint(condition=~Q(granted_by=F("user")), name="binding_not_by_oneself"),
            models.CheckConstraint(
                condition=~Q(source="break-glass") | Q(expires_at__isnull=False), name="binding_of_emergency_ends"
            ),
            models.UniqueConstraint(
                fields=["user", "role", "unit"],
                condition=Q(revoked_at=None, expires_at=None),
                nulls_distinct=False,
                name="binding_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.role_id} · {self.namespace}"

    @property
    def ends_at(self) -> datetime | None:
        """When it ended, or will end: by its term or its revocation, whichever is first; None for no end."""
        ends = [moment for moment in (self.expires_at, self.revoked_at) if moment]
        return min(ends, default=None)


class GroupMapping(Placed):
    """What membership in a group of the identity provider gives."""

    group = models.CharField(_("group"), max_length=200)
    role = models.ForeignKey(AccessRole, verbose_name=_("role"), on_delete=models.PROTECT)
    unit = models.ForeignKey(
        Unit, verbose_name=_("unit"), null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    class Meta:
        verbose_name = _("group of the identity provider")
        verbose_name_plural = _("groups of the identity provider")
        constraints = [
            models.UniqueConstraint(fields=["group", "role", "unit"], nulls_distinct=False, name="group_once")
        ]

    def __str__(self) -> str:
        return f"{self.group} → {self.role_id}"


class EmergencyAccessQuerySet(models.QuerySet["EmergencyAccess"]):
    """Reads of emergency accesses."""

    def waiting(self, at: datetime) -> "EmergencyAccessQuerySet":
        """Return the requests that can still be decided at that time."""
        return self.filter(
            state=EmergencyAccess.State.REQUESTED, requested_at__gt=at - EmergencyAccess.DECIDED_WITHIN
        )


class EmergencyAccess(Placed):
    """Break-glass: a role asked for in an emergency, approved by a second person, for at most a few hours."""

    class State(models.TextChoices):
        REQUESTED = "requested", _("waits for a second person")
        ACTIVE = "active", _("in force")
        REFUSED = "refused", _("refused")
        ENDED = "ended", _("ended")

    MAX_MINUTES: ClassVar[int] = 240
    DECIDED_WITHIN: ClassVar[timedelta] = timedelta(hours=1)

    user = models.ForeignKey(User, verbose_name=_("person"), on_delete=models.PROTECT, related_name="emergencies")
    role = models.ForeignKey(AccessRole, verbose_name=_("role"), on_delete=models.PROTECT)
    unit = models.ForeignKey(
        Unit, verbose_name=_("unit"), null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    reason = models.CharField(_("reason"), max_length=500)
    minutes = models.PositiveSmallIntegerField(_("minutes"))
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.REQUESTED)
    requested_at = models.DateTimeField(_("requested at"), default=timezone.now)
    decided_by = models.ForeignKey(
        User, verbose_name=_("decided by"), null=True, on_delete=models.PROTECT, related_name="+"
    )
    decided_at = models.DateTimeField(_("decided at"), null=True)
    binding = models.OneToOneField(
        RoleBinding, verbose_name=_("binding"), null=True, on_delete=models.PROTECT, related_name="emergency"
    )

    objects = EmergencyAccessQuerySet.as_manager()

    class Meta:
        verbose_name = _("emergency access")
        verbose_name_plural = _("emergency accesses")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=~Q(decided_by=F("user")), name="emergency_needs_another"),
            models.CheckConstraint(condition=Q(minutes__gte=5, minutes__lte=240), name="emergency_is_short"),
            models.CheckConstraint(
                condition=~Q(state="active") | Q(decided_by__isnull=False, binding__isnull=False),
                name="emergency_active_is_decided",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.role_id}"

    def state_at(self, now: datetime) -> str:
        """Return the state at that time: time refuses what waits for more than an hour, and ends what is over."""
        if self.state == self.State.REQUESTED and self.requested_at <= now - self.DECIDED_WITHIN:
            return self.State.REFUSED
        ends = self.binding.ends_at if self.binding else None
        if self.state == self.State.ACTIVE and ends is not None and ends <= now:
            return self.State.ENDED
        return self.state


class AccessReview(Placed):
    """A look at every binding of a unit (or the whole holding) by a person who did not grant them."""

    unit = models.ForeignKey(
        Unit, verbose_name=_("unit"), null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    reviewer = models.ForeignKey(User, verbose_name=_("reviewer"), on_delete=models.PROTECT, related_name="reviews")
    opened_by = models.ForeignKey(
        User, verbose_name=_("opened by"), null=True, on_delete=models.PROTECT, related_name="+"
    )
    opened_at = models.DateTimeField(_("opened at"), default=timezone.now)
    due_at = models.DateTimeField(_("due at"))
    closed_at = models.DateTimeField(_("closed at"), null=True)

    class Meta:
        verbose_name = _("access review")
        verbose_name_plural = _("access reviews")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.opened_at:%Y-%m-%d} {self.reviewer}"

    @property
    def overdue(self) -> bool:
        """Whether it should have been closed by now."""
        return self.closed_at is None and self.due_at < timezone.now()


class ReviewItem(models.Model):
    """One binding in a review, and what the reviewer said of it."""

    class Verdict(models.TextChoices):
        KEEP = "keep", _("keep")
        REVOKE = "revoke", _("revoke")

    review = models.ForeignKey(
        AccessReview, verbose_name=_("review"), on_delete=models.CASCADE, related_name="items"
    )
    binding = models.ForeignKey(RoleBinding, verbose_name=_("binding"), on_delete=models.PROTECT, related_name="+")
    verdict = models.CharField(_("verdict"), max_length=6, choices=Verdict, blank=True)
    note = models.CharField(_("note"), max_length=200, blank=True)
    decided_at = models.DateTimeField(_("decided at"), null=True)

    class Meta:
        verbose_name = _("reviewed binding")
        verbose_name_plural = _("reviewed bindings")
        constraints = [models.UniqueConstraint(fields=["review", "binding"], name="review_item_once")]

    def __str__(self) -> str:
        return f"{self.review_id} · {self.binding_id}"


class Invitation(models.Model):
    """An invitation by e-mail. Only the SHA-256 of its token is stored; it is used once."""

    email = models.EmailField(_("e-mail"))
    first_name = models.CharField(_("first name"), max_length=150, blank=True)
    last_name = models.CharField(_("last name"), max_length=150, blank=True)
    role = models.ForeignKey(AccessRole, verbose_name=_("role"), null=True, on_delete=models.PROTECT)
    unit = models.ForeignKey(
        Unit, verbose_name=_("unit"), null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    language = models.CharField(_("language"), max_length=5, blank=True)
    digest = models.CharField(_("digest"), max_length=64, unique=True)
    invited_by = models.ForeignKey(User, verbose_name=_("invited by"), on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(_("sent at"), default=timezone.now)
    expires_at = models.DateTimeField(_("until"))
    accepted_by = models.OneToOneField(
        User, verbose_name=_("accepted by"), null=True, on_delete=models.PROTECT, related_name="invitation"
    )
    revoked_at = models.DateTimeField(_("revoked at"), null=True)

    class Meta:
        verbose_name = _("invitation")
        verbose_name_plural = _("invitations")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.email


class ApiToken(models.Model):
    """A bearer token of the API. Only its SHA-256 is stored; the token itself is shown once.

    It opens no more than its account may, and less when it names permissions or a unit.
    """

    user = models.ForeignKey(User, verbose_name=_("account"), on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(_("name"), max_length=100)
    digest = models.CharField(_("digest"), max_length=64, unique=True)
    permissions = ArrayField(
        models.CharField(max_length=40),
        verbose_name=_("permissions"),
        default=list,
        blank=True,
        help_text=_("Empty: whatever the account may."),
    )
    unit = models.ForeignKey(
        Unit, verbose_name=_("unit"), null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used at"), null=True)

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="token_name")]

    def __str__(self) -> str:
        return f"{self.user} · {self.name}"
