"""The form of a command: what it asks is checked here, what is allowed by the service of commands."""

import re
from typing import Any, Final
from uuid import uuid4

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from holding import scope
from holding.models import Division, Role, Seat, Unit
from subsidiaries.commands.models import REASON_LENGTH, Command
from subsidiaries.commands.orders import PATIENCE_S, PERMISSIONS, SETTINGS, USUAL_PATIENCE_S, Order
from subsidiaries.commands.services import lifting

KEY = re.compile(r"^[0-9a-f-]{36}$")
LARGEST: Final = 2**63 - 1


class OrderForm(forms.Form):
    """A command; without unit, division, agent and host it is about the whole holding."""

    verb = forms.ChoiceField(label=gettext_lazy("Command"))
    unit: Any = forms.ModelChoiceField(
        Unit.objects.none(),
        to_field_name="slug",
        label=gettext_lazy("Unit"),
        required=False,
        empty_label=gettext_lazy("the whole holding"),
    )
    division: Any = forms.ModelChoiceField(
        Division.objects.none(), to_field_name="key", label=gettext_lazy("Only this division"), required=False
    )
    role: Any = forms.ModelChoiceField(
        Role.objects.none(), to_field_name="slug", label=gettext_lazy("Only this role"), required=False
    )
    seat = forms.CharField(
        label=gettext_lazy("Only this agent: code of its seat, like op-0042"), max_length=30, required=False
    )
    host = forms.CharField(
        label=gettext_lazy("Only what this host runs (to hand over)"), max_length=100, required=False
    )
    lifts = forms.IntegerField(
        label=gettext_lazy("Only lift this command (to resume): its number"),
        min_value=1,
        max_value=LARGEST,
        required=False,
    )
    percent = forms.IntegerField(
        label=gettext_lazy("Share of each step (%)"), min_value=1, max_value=100, initial=100
    )
    halt_above = forms.IntegerField(
        label=gettext_lazy("Halt above this failure rate (%)"), min_value=0, max_value=100, initial=0
    )
    patience_s = forms.IntegerField(
        label=gettext_lazy("Seconds to obey, for each step"),
        min_value=PATIENCE_S[0],
        max_value=PATIENCE_S[1],
        initial=USUAL_PATIENCE_S,
    )
    reason = forms.CharField(
        label=gettext_lazy("Reason: everybody concerned reads it"),
        max_length=REASON_LENGTH,
        widget=forms.Textarea({"rows": 2}),
    )
    key = forms.CharField(widget=forms.HiddenInput, max_length=36, required=False)

    def __init__(self, *args: Any, **options: Any) -> None:
        """Offer the commands and the units for which whoever asks holds a permission."""
        super().__init__(*args, **options)
        held = scope.current()
        fields: dict[str, Any] = self.fields
        fields["key"].initial = uuid4
        fields["verb"].choices = [
            (value, label) for value, label in Command.Verb.choices if held.has(PERMISSIONS[value])
        ]
        fields["unit"].queryset = Unit.objects.order_by("position")
        if all(held.units(code) is not None for code in PERMISSIONS.values()):
            fields["unit"].empty_label = _("choose one")
        fields["division"].queryset = Division.objects.select_related("unit")
        fields["role"].queryset = Role.objects.order_by("position")
        for name, (least, most) in SETTINGS.items():
            words = _("%(name)s: %(least)g to %(most)g s") % {"name": name, "least": least, "most": most}
            fields[name] = forms.FloatField(label=words, min_value=least, max_value=most, required=False)

    def main_fields(self) -> list[forms.BoundField]:
        """Return what is asked of every command."""
        return [field for field in self.visible_fields() if field.name not in SETTINGS]

    def setting_fields(self) -> list[forms.BoundField]:
        """Return what is asked of the command for settings of hosts."""
        return [self[name] for name in SETTINGS]

    def clean_key(self) -> str:
        """Return the key that makes the same form, sent twice, one command."""
        key: str = self.cleaned_data["key"]
        if not KEY.match(key):
            raise forms.ValidationError(_("The form has expired; open it again."))
        return key

    def clean(self) -> dict[str, Any]:
        """Find what the names mean, and whether they fit together. Raises ValidationError."""
        given = super().clean() or self.cleaned_data
        unit, division = given.get("unit"), given.get("division")
        if unit is not None and division is not None and division.unit_id != unit.pk:
            self.add_error("division", _("This division is not of that unit."))
        unit = given["unit"] = unit or (division.unit if division is not None else None)
        if code := given.get("seat", "").strip().lower():
            seats = Seat.objects.select_related("unit", "division").filter(unit=unit, code=code)
            given["seat"] = seats.first()
            if unit is None:
                self.add_error("seat", _("Choose the unit of the agent too."))
            elif given["seat"] is None:
                words = _("There is no seat “%(code)s” in “%(unit)s”.") % {"code": code, "unit": unit.slug}
                self.add_error("seat", words)
        if given.get("lifts") is not None:
            lifted = Command.objects.for_listing().filter(pk=given["lifts"]).first()
            if lifted is None:
                self.add_error("lifts", _("There is no command %(key)s.") % {"key": given["lifts"]})
            elif given.get("verb") != Command.Verb.RESUME:
                self.add_error("lifts", _("A command is lifted by “resume” alone."))
            given["lifts"] = lifted
        return given

    def order(self, person_id: int) -> Order:
        """Return the order of a form that is valid."""
        given = self.cleaned_data
        key = f"page-{person_id}-{given['key']}"
        if given["lifts"] is not None:
            return lifting(given["lifts"], reason=given["reason"], key=key, patience_s=given["patience_s"])
        return Order(
            verb=given["verb"],
            reason=given["reason"],
            key=key,
            unit=given["unit"],
            division=given["division"],
            role=given["role"],
            seat=given["seat"] or None,
            host=given["host"],
            settings={name: given[name] for name in SETTINGS if given[name] is not None},
            percent=given["percent"],
            halt_above=given["halt_above"],
            patience_s=given["patience_s"],
        )
