"""What was taken out of the portal."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from iam.authority.models import Approval


class Export(models.Model):
    """A list that somebody exported. An approval serves one export."""

    at = models.DateTimeField(_("at"))
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("person"), on_delete=models.PROTECT, related_name="+"
    )
    filters = models.JSONField(_("filters"))
    rows = models.PositiveIntegerField(_("rows"))
    approval = models.OneToOneField(
        Approval, verbose_name=_("approval"), null=True, on_delete=models.PROTECT, related_name="export"
    )

    class Meta:
        verbose_name = _("export")
        verbose_name_plural = _("exports")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d} {self.rows}"
