"""People and the tokens of integrations."""

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class User(AbstractUser):
    """A person who may sign in. Without the holding's clearance a person sees nothing but the sign-in."""

    cleared = models.BooleanField(
        _("has the holding's clearance"),
        default=False,
        help_text=_("Pages and API answer only to people with the clearance (C-Suite executive access only)."),
    )
    language = models.CharField(
        _("language"), max_length=5, blank=True, choices=[("es", _("Spanish")), ("en", _("English"))]
    )

    class Meta:
        verbose_name = _("person")
        verbose_name_plural = _("people")


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    """Reads of tokens."""

    def usable(self) -> "ApiTokenQuerySet":
        """Return the tokens that open the API now: not expired, of an active and cleared person."""
        return self.filter(
            models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now()),
            user__is_active=True,
            user__cleared=True,
        )


class ApiToken(models.Model):
    """A bearer token of the API. Only its SHA-256 is stored; the token itself is shown once."""

    user = models.ForeignKey(User, verbose_name=_("person"), on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(_("name"), max_length=100)
    digest = models.CharField(_("digest"), max_length=64, unique=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="token_name")]

    def __str__(self) -> str:
        return f"{self.user} · {self.name}"
