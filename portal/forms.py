"""Forms of the pages about authority: what they ask is checked here, what is allowed by the services."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from uuid import uuid4

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from holding.models import Unit
from iam.access.models import User
from iam.authority.models import Appointment, ExchangeRate, Interest, Matter, Office

KEY = re.compile(r"^[0-9a-f-]{36}$")
NOTE = 2000
EURO = "EUR"
MATRIX = 100_000  # characters


class RequestForm(forms.Form):
    """What is asked for."""

    matter: Any = forms.ModelChoiceField(
        Matter.objects.all(), to_field_name="slug", label=gettext_lazy("Matter"), empty_label=None
    )
    unit: Any = forms.ModelChoiceField(
        Unit.objects.none(), to_field_name="slug", label=gettext_lazy("Unit"), empty_label=None
    )
    value = forms.DecimalField(
        label=gettext_lazy("Value, in the matter's measure"),
        min_value=Decimal(0), max_digits=20, decimal_places=4,
    )  # fmt: skip
    currency = forms.ChoiceField(label=gettext_lazy("Currency, of an amount"), initial=EURO, required=False)
    title = forms.CharField(label=gettext_lazy("What is asked for"), max_length=200)
    counterparty = forms.CharField(label=gettext_lazy("Counterparty, if any"), max_length=200, required=False)
    reason = forms.CharField(
        label=gettext_lazy("Reason"), max_length=NOTE, required=False, widget=forms.Textarea({"rows": 3})
    )
    key = forms.CharField(widget=forms.HiddenInput, max_length=36, required=False)

    def __init__(
        self, *args: Any, units: frozenset[int] | None, rates: Iterable[ExchangeRate] = (), **options: Any
    ) -> None:
        """Offer these units (None: all in view), and the euro and the currencies that have a rate."""
        super().__init__(*args, **options)
        self.fields["key"].initial = uuid4
        currency: Any = self.fields["currency"]
        currency.choices = [(EURO, EURO), *((one.currency, one.currency) for one in rates)]
        offered = Unit.objects.order_by("position")
        field: Any = self.fields["unit"]
        field.queryset = offered if units is None else offered.filter(pk__in=units)

    def clean_currency(self) -> str:
        """Return the currency; the euro where none was chosen."""
        return self.cleaned_data["currency"] or EURO

    def clean(self) -> dict[str, Any]:
        """Say whether it is an amount in another currency; of what is no amount the currency does not count."""
        given = dict(super().clean() or {})
        matter = given.get("matter")
        amount = matter is not None and matter.measure == Matter.Measure.AMOUNT
        given["foreign"] = amount and given.get("currency", EURO) != EURO
        if not given["foreign"]:
            given["currency"] = EURO
        return given

    def clean_key(self) -> str:
        """Return the key that makes the same form, sent twice, one request."""
        key: str = self.cleaned_data["key"]
        if not KEY.match(key):
            raise forms.ValidationError(_("The form has expired; open it again."))
        return key


class PersonField(forms.CharField):
    """A person, by username."""

    def clean(self, value: Any) -> Any:
        """Return the person. Raises ValidationError when there is none, or one who may not sign in."""
        name = super().clean(value)
        person = User.objects.filter(
            username=name.strip(), kind=User.Kind.PERSON, is_active=True, cleared=True
        ).first()
        if person is None:
            raise forms.ValidationError(_("There is no active person of this name with the clearance."))
        return person


class SpanForm(forms.Form):
    """Something that holds for a time."""

    valid_to = forms.DateTimeField(
        label=gettext_lazy("Until (UTC)"), required=False, widget=forms.DateTimeInput({"type": "datetime-local"})
    )


class UnitForm(SpanForm):
    """Something that may be of a unit: of those in view when it is filled in."""

    unit_label: Any = ""
    unit: Any = forms.ModelChoiceField(Unit.objects.none(), to_field_name="slug", required=False)

    def __init__(self, *args: Any, **options: Any) -> None:
        """Offer the units in view."""
        super().__init__(*args, **options)
        field: Any = self.fields["unit"]
        field.queryset = Unit.objects.order_by("position")
        field.label = self.unit_label


class DelegationForm(SpanForm):
    """The loan of an office."""

    appointment: Any = forms.ModelChoiceField(
        Appointment.objects.none(), label=gettext_lazy("Office"), empty_label=None
    )
    person = PersonField(label=gettext_lazy("To (username)"), max_length=150)
    matters: Any = forms.ModelMultipleChoiceField(
        Matter.objects.all(),
        to_field_name="slug",
        label=gettext_lazy("Only these matters (none: all)"),
        required=False,
    )
    limit = forms.DecimalField(
        label=gettext_lazy("Up to"), required=False, min_value=Decimal(0), max_digits=20, decimal_places=4
    )
    reason = forms.CharField(label=gettext_lazy("Reason"), max_length=200)

    def __init__(self, *args: Any, held: Any, **options: Any) -> None:
        """Offer the appointments that the person holds and may lend."""
        super().__init__(*args, **options)
        field: Any = self.fields["appointment"]
        field.queryset = held
        field.label_from_instance = lambda one: (
            f"{one.office.name} · {one.unit.name}" if one.unit else one.office.name
        )
        self.order_fields(["appointment", "person", "matters", "limit", "valid_to", "reason"])


class SubstitutionForm(SpanForm):
    """Who stands in for the person."""

    substitute = PersonField(label=gettext_lazy("Who stands in (username)"), max_length=150)
    reason = forms.CharField(label=gettext_lazy("Reason"), max_length=200)
    field_order = ("substitute", "valid_to", "reason")


class InterestForm(UnitForm):
    """An interest of the person."""

    kind = forms.ChoiceField(label=gettext_lazy("Kind"), choices=Interest.Kind.choices)
    unit_label = gettext_lazy("In a unit")
    counterparty = forms.CharField(label=gettext_lazy("Or in a counterparty"), max_length=200, required=False)
    field_order = ("kind", "unit", "counterparty", "valid_to")


class AppointmentForm(UnitForm):
    """An office for somebody."""

    office: Any = forms.ModelChoiceField(
        Office.objects.exclude(rank=0), to_field_name="slug", label=gettext_lazy("Office"), empty_label=None
    )
    person = PersonField(label=gettext_lazy("Person (username)"), max_length=150)
    unit_label = gettext_lazy("Unit, for an office of units")
    field_order = ("office", "person", "unit", "valid_to")


class DraftForm(forms.Form):
    """A text of the matrix, typed or in a file."""

    text = forms.CharField(
        label=gettext_lazy("Rules (YAML)"),
        max_length=MATRIX,
        required=False,
        strip=False,
        widget=forms.Textarea({"rows": 20, "class": "code", "spellcheck": "false"}),
    )
    file: Any = forms.FileField(label=gettext_lazy("Or a file, in place of the text"), required=False)
    reason = forms.CharField(label=gettext_lazy("Reason"), max_length=200)

    def clean(self) -> dict[str, Any]:
        """Take the text of the file, if there is one, and show it in place of what was typed."""
        given = dict(super().clean() or {})
        sent = given.get("file")
        if sent is not None:
            if sent.size > MATRIX:
                raise forms.ValidationError(_("The file is too large."))
            try:
                given["text"] = sent.read().decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise forms.ValidationError(_("The file is not text in UTF-8.")) from error
            self.data = self.data.copy()  # type: ignore[attr-defined]
            self.data["text"] = given["text"]  # type: ignore[index]
        if "text" in given and not given["text"].strip():
            raise forms.ValidationError(_("Write the rules, or choose a file."))
        return given


class AdoptionForm(forms.Form):
    """From when on a version is in force."""

    day = forms.DateField(
        label=gettext_lazy("In force from the day (UTC; empty: now)"),
        required=False,
        widget=forms.DateInput({"type": "date"}),
    )


class RateForm(forms.Form):
    """The rate of a currency on a day."""

    currency = forms.RegexField(
        r"^\s*[A-Za-z]{3}\s*$", label=gettext_lazy("Currency (three letters)"), max_length=10
    )
    rate = forms.DecimalField(
        label=gettext_lazy("EUR for one of the currency"),
        min_value=Decimal("0.00000001"), max_digits=18, decimal_places=8,
    )  # fmt: skip
    on = forms.DateField(
        label=gettext_lazy("Day of the rate"),
        widget=forms.DateInput({"type": "date"}, format="%Y-%m-%d"),  # the one form that browsers take
    )
    source = forms.CharField(label=gettext_lazy("Source"), max_length=200)
    confirmed = forms.BooleanField(
        label=gettext_lazy("It is right although it differs much from the last one"), required=False
    )

    def clean_currency(self) -> str:
        """Return the currency in capital letters."""
        return str(self.cleaned_data["currency"]).strip().upper()
