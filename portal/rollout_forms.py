"""The forms of blueprint versions and of rollouts; what is allowed is checked by their services."""

import json
import re
from typing import Any, Final
from uuid import uuid4

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from holding import scope
from holding.models import Blueprint, BlueprintVersion, Unit
from subsidiaries.replacement.rollout_models import REASON_LENGTH
from subsidiaries.replacement.rollout_orders import BOUNDS, MANAGE, Order, label_of
from subsidiaries.replacement.versions import NOTE_LENGTH

KEY: Final = re.compile(r"^[0-9a-f-]{36}$")
LARGEST_TEXT: Final = 40_000


class VersionForm(forms.Form):
    """A draft: its specification as text, and what it is for."""

    blueprint: Any = forms.ModelChoiceField(
        Blueprint.objects.none(), to_field_name="slug", label=gettext_lazy("Blueprint of")
    )
    spec = forms.CharField(
        label=gettext_lazy("Specification (JSON)"),
        max_length=LARGEST_TEXT,
        widget=forms.Textarea({"rows": 14, "spellcheck": "false"}),
    )
    note = forms.CharField(
        label=gettext_lazy("What it is for: whoever approves it reads it"),
        max_length=NOTE_LENGTH,
        widget=forms.Textarea({"rows": 2}),
    )

    def __init__(self, *args: Any, fixed: bool = False, **options: Any) -> None:
        """Offer the blueprints; of a version that is edited the blueprint is fixed."""
        super().__init__(*args, **options)
        fields: dict[str, Any] = self.fields
        if fixed:
            del fields["blueprint"]
        else:
            fields["blueprint"].queryset = Blueprint.objects.select_related("role", "body").order_by("pk")

    def clean_spec(self) -> Any:
        """Return the specification. Raises ValidationError for what is no JSON, with line and column."""
        text: str = self.cleaned_data["spec"]
        try:
            return json.loads(text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            raise forms.ValidationError(
                _("Line %(line)d, column %(column)d: %(words)s")
                % {"line": error.lineno, "column": error.colno, "words": error.msg}
            ) from error
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(_("This is no JSON: %(words)s") % {"words": str(error)[:200]}) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


class RolloutForm(forms.Form):
    """A rollout; without a unit it is about all units that have such agents."""

    version: Any = forms.ModelChoiceField(BlueprintVersion.objects.none(), label=gettext_lazy("Version"))
    unit: Any = forms.ModelChoiceField(
        Unit.objects.none(),
        to_field_name="slug",
        label=gettext_lazy("Unit"),
        required=False,
        empty_label=gettext_lazy("every unit that has such agents"),
    )
    reason = forms.CharField(
        label=gettext_lazy("Reason: everybody concerned reads it"),
        max_length=REASON_LENGTH,
        widget=forms.Textarea({"rows": 2}),
    )
    key = forms.CharField(widget=forms.HiddenInput, max_length=36, required=False)

    def __init__(self, *args: Any, **options: Any) -> None:
        """Offer the good versions, and the units for which whoever asks holds the permission."""
        super().__init__(*args, **options)
        fields: dict[str, Any] = self.fields
        fields["key"].initial = uuid4
        approved = BlueprintVersion.objects.approved().filter(halted_at=None)
        fields["version"].queryset = approved.select_related("blueprint").order_by("blueprint__slug", "-version")
        fields["unit"].queryset = Unit.objects.order_by("position")
        if scope.current().units(MANAGE) is not None:
            fields["unit"].empty_label = _("choose one")
        for name, (least, most, usual) in BOUNDS.items():
            label = label_of(name)
            words = f"{label[:1].upper()}{label[1:]} ({least}–{most})"
            fields[name] = forms.IntegerField(label=words, min_value=least, max_value=most, initial=usual)

    def clean_key(self) -> str:
        """Return the key that makes the same form, sent twice, one rollout."""
        key: str = self.cleaned_data["key"]
        if not KEY.match(key):
            raise forms.ValidationError(_("The form has expired; open it again."))
        return key

    def order(self, person_id: int) -> Order:
        """Return the order of a form that is valid."""
        given = self.cleaned_data
        return Order(
            version=given["version"],
            reason=given["reason"],
            key=f"page-{person_id}-{given['key']}",
            unit=given["unit"],
            **{name: given[name] for name in BOUNDS},
        )
