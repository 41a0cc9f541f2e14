"""The forms of staffing: a plan, a cap that people delegate, a planned retirement."""

import re
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from holding import clock
from holding.models import Unit
from subsidiaries.replacement.delegating import MOST, Cap
from subsidiaries.replacement.planning import Retirement, StaffingPlan
from subsidiaries.replacement.retiring import MOST_NAMED, REASON_LENGTH, Order
from subsidiaries.replacement.staffing import MOST_SEATS, Change

KEY: Final = re.compile(r"^[0-9a-f-]{36}$")
CODES: Final = re.compile(r"[\s,;]+")


class ReasonedForm(forms.Form):
    """A form with a reason, and a key that makes the same form, sent twice, one request."""

    reason = forms.CharField(
        label=gettext_lazy("Reason: everybody concerned reads it"),
        max_length=REASON_LENGTH,
        widget=forms.Textarea({"rows": 2}),
    )
    key = forms.CharField(widget=forms.HiddenInput, max_length=36, required=False)

    def __init__(self, *args: Any, **options: Any) -> None:
        """Give the form its key, and put the reason last."""
        super().__init__(*args, **options)
        self.fields["key"].initial = uuid4
        self.order_fields([name for name in self.fields if name not in ("reason", "key")])

    def clean_key(self) -> str:
        """Return the key. Raises ValidationError for a form that carries none."""
        key: str = self.cleaned_data["key"]
        if not KEY.match(key):
            raise forms.ValidationError(_("The form has expired; open it again."))
        return key

    def given(self) -> list[tuple[str, Any]]:
        """Return the fields as they were sent, for the form that confirms them."""
        return [(name, self.data[name]) for name in self.fields if self.data.get(name)]


class PlanForm(ReasonedForm):
    """Floor, reserve and maximum of the operators of a subsidiary."""

    floor = forms.IntegerField(label=gettext_lazy("Floor"), min_value=0, max_value=MOST_SEATS)
    reserve = forms.IntegerField(label=gettext_lazy("Reserve"), min_value=0, max_value=MOST_SEATS)
    maximum = forms.IntegerField(label=gettext_lazy("Maximum"), min_value=0, max_value=MOST_SEATS)

    def change(self, plan: StaffingPlan) -> Change:
        """Return the change that a valid form asks for."""
        said = self.cleaned_data
        return Change(plan.unit, plan.role, said["floor"], said["reserve"], said["maximum"])


class CapForm(ReasonedForm):
    """Replacements per business day, for so many days."""

    cap = forms.IntegerField(label=gettext_lazy("Replacements per day, at most"), min_value=0, max_value=MOST)
    days = forms.IntegerField(
        label=gettext_lazy("For how many days, today included (empty: until it is revoked)"),
        min_value=1,
        max_value=366,
        required=False,
    )

    def cap_of(self, unit: Unit) -> Cap:
        """Return the cap that a valid form asks for, from this business day on."""
        said, today = self.cleaned_data, clock.today().date()
        ends = today + timedelta(days=said["days"] - 1) if said["days"] else None
        return Cap(unit, said["cap"], today, ends)


class RetireForm(ReasonedForm):
    """Which operators are to be followed by their next generation, and how many seats are opened for it."""

    choice = forms.ChoiceField(label=gettext_lazy("Which agents"), choices=Retirement.Choice.choices)
    count = forms.IntegerField(
        label=gettext_lazy("How many of them, at most"), min_value=1, max_value=MOST_SEATS, required=False
    )
    version = forms.IntegerField(
        label=gettext_lazy("Those made before this version of the blueprint"),
        min_value=2,
        max_value=1_000_000,
        required=False,
    )
    named = forms.CharField(
        label=gettext_lazy("Codes of their seats, like op-0042 op-0043"),
        max_length=MOST_NAMED * 11,
        widget=forms.Textarea({"rows": 2}),
        required=False,
    )
    surge = forms.IntegerField(
        label=gettext_lazy("Seats opened for it, beyond the establishment"),
        min_value=0,
        max_value=MOST_SEATS,
        initial=0,
    )

    def order(self, plan: StaffingPlan) -> Order:
        """Return the order that a valid form gives."""
        said = self.cleaned_data
        return Order(
            unit=plan.unit,
            role=plan.role,
            choice=said["choice"],
            count=said["count"] or 0,
            version=said["version"] or 0,
            named=tuple(dict.fromkeys(code for code in CODES.split(said["named"].strip().lower()) if code)),
            surge=said["surge"],
        )
