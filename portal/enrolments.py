"""The pages of enrolment: what is shown, and the form."""

from collections.abc import Mapping
from typing import Any, Final

from django import forms
from django.utils.translation import gettext_lazy as _

from holding.models import Seat, Unit
from iam.access.rights import REASON_LENGTH
from portal.states import Look
from subsidiaries.enrolment.models import Enrolment
from subsidiaries.enrolment.services import DEFAULT_MINUTES, MOST_MINUTES

LOOKS: Final[Mapping[str, Look]] = {
    Enrolment.State.OFFERED: Look("info", _("offered")),
    Enrolment.State.EXPIRED: Look("idle", _("expired")),
    Enrolment.State.WAITING: Look("warn", _("waiting for the agent")),
    Enrolment.State.LIVE: Look("ok", _("live")),
    Enrolment.State.SILENT: Look("crit", _("silent")),
    Enrolment.State.ENDED: Look("idle", _("ended")),
}


class EnrolForm(forms.Form):
    """A seat to be offered to an agent of one's own."""

    unit = forms.ModelChoiceField(label=_("Unit"), queryset=Unit.objects.none(), to_field_name="slug")
    seat = forms.CharField(
        label=_("Seat"), max_length=30, help_text=_("Its code, like op-0042: the hosted agent there gives way.")
    )
    reason = forms.CharField(label=_("Reason"), max_length=REASON_LENGTH)
    minutes = forms.IntegerField(
        label=_("Minutes"),
        min_value=1,
        max_value=MOST_MINUTES,
        initial=DEFAULT_MINUTES,
        help_text=_("How long the token counts."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        units = Unit.objects.exclude(kind=Unit.Kind.CORPORATE).order_by("position")
        self.fields["unit"].queryset = units  # type: ignore[attr-defined]  # a field of models has one

    def clean(self) -> dict[str, Any]:
        """Find the seat. Raises ValidationError when the unit has none of that code."""
        data = super().clean() or self.cleaned_data
        unit, code = data.get("unit"), data.get("seat", "").strip().lower().replace("\x00", "")
        if unit is None or not code:
            return data
        seat = Seat.objects.select_related("unit").filter(unit=unit, code=code).first()
        if seat is None:
            self.add_error(
                "seat", _("There is no seat “%(code)s” in “%(unit)s”.") % {"code": code, "unit": unit.slug}
            )
        return {**data, "seat": seat}

    def wanted(self) -> dict[str, Any]:
        """Return what to enrol."""
        return {name: self.cleaned_data[name] for name in ("seat", "reason", "minutes")}
