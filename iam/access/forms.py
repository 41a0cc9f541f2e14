"""Forms of people, accounts and tokens, of grants, roles, groups, emergency access and reviews."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib.auth import password_validation
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from audit.services import digest
from holding.models import Unit
from iam.access.models import AccessRole, ApiToken, EmergencyAccess, User
from iam.access.permissions import PERMISSIONS
from iam.access.powers import keeps_sign_in
from iam.access.rights import REASON_LENGTH
from iam.access.services import KEPT, LONGEST_TOKEN, PERSON_FIELDS, TAKEN, lasting_administrators, person_state


class PersonForm(forms.ModelForm):
    """A person; the password is asked for at first, and later only when it is to change.

    `by` is who fills it in: of somebody who holds an office, nobody else is offered password and address.
    """

    by: User | None = None

    password = forms.CharField(
        label=_("Password"),
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("At least 12 characters. Leave it empty to keep the present one."),
    )
    state = forms.CharField(required=False, widget=forms.HiddenInput)  # of the person when the form was opened

    class Meta:
        model = User
        fields = PERSON_FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance.pk:
            self.fields["password"].required = True
            return
        self.initial["state"] = digest(person_state(self.instance))
        if keeps_sign_in(user=self.instance, by=self.by):
            self.initial.pop("password", None)  # a field that is shut off has its initial value: here, the hash
            for name in ("password", "email"):
                self.fields[name].disabled, self.fields[name].help_text = True, KEPT

    def clean_password(self) -> str:
        """Return the password. Raises ValidationError when it is weak."""
        password: str = self.cleaned_data["password"]
        if password:
            password_validation.validate_password(password, self.instance)
        return password

    def clean_email(self) -> str:
        """Return the address. Raises ValidationError when it is somebody else's."""
        email: str = self.cleaned_data["email"]
        if email and User.objects.filter(email__iexact=email).exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError(TAKEN["email"])
        return email

    def clean(self) -> dict[str, Any]:
        """Refuse to take the rights of the last administrator, and what was opened before somebody's change."""
        data = super().clean() or self.cleaned_data
        if data.get("state") and data["state"] != self.initial.get("state"):
            raise forms.ValidationError(
                _("Somebody has changed this person since you opened the form. Open it again, and look.")
            )
        stays = all(data.get(name, True) for name in ("is_active", "is_staff", "cleared"))
        if self.instance.pk and not stays and list(lasting_administrators()[:2]) == [self.instance]:
            raise forms.ValidationError(
                _("Nobody could administer the portal any more: give somebody else the rights first.")
            )
        return data

    def changed_state(self) -> dict[str, Any]:
        """Return the fields to write: all of a new person, of another those that were changed."""
        state, new = person_state(self.instance), not self.instance.pk
        return {name: state[name] for name in PERSON_FIELDS if new or name in self.changed_data}


class TokenForm(forms.ModelForm):
    """A new token: whose, what for, until when, and what it opens."""

    permissions = forms.MultipleChoiceField(
        label=_("Permissions"),
        required=False,
        choices=[(code, permission.name) for code, permission in PERMISSIONS.items()],
        help_text=_("None chosen: whatever the account may."),
    )

    class Meta:
        model = ApiToken
        fields = ("user", "name", "expires_at", "permissions", "unit")


class UnitField(forms.ModelChoiceField):
    """One of the units in view, by its slug; the parent company stands for the whole holding."""

    def __init__(self, **options: Any) -> None:
        super().__init__(queryset=Unit.objects.none(), to_field_name="slug", empty_label=None, **options)

    def label_from_instance(self, unit: Unit) -> str:
        """Return the unit's name; the parent company's says that it is everything."""
        return str(_("The whole holding")) if unit.kind == Unit.Kind.CORPORATE else unit.name


class PersonField(forms.CharField):
    """Somebody, by username, whoever may see them: who grants need not know more of them than the name."""

    def clean(self, value: Any) -> Any:
        """Return the account. Raises ValidationError when there is none."""
        name = super().clean(value)
        account = User.objects.filter(username=name).first() if name else None
        if name and account is None:
            raise forms.ValidationError(_("There is nobody with that name."))
        return account


class AccessForm(forms.Form):
    """A form with a unit and a role, whose choices are those of whoever asks, now."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, queryset in (("unit", Unit.objects.order_by("position")), ("role", AccessRole.objects.all())):
            field = self.fields.get(name)
            if isinstance(field, forms.ModelChoiceField):
                field.queryset = queryset


def _day(required: bool, **options: Any) -> forms.DateField:
    return forms.DateField(required=required, widget=forms.DateInput(attrs={"type": "date"}), **options)


def _midnight(day: Any) -> datetime | None:
    """Return the beginning of the day in UTC, the clock of all that the portal keeps."""
    return datetime.combine(day, time.min, tzinfo=UTC) if day else None


class GrantForm(AccessForm):
    """Who is to have which role, where, from when until when, and why."""

    person = PersonField(label=_("Person"), max_length=150)
    role = forms.ModelChoiceField(
        label=_("Role"), queryset=AccessRole.objects.none(), to_field_name="slug", empty_label=None
    )
    unit = UnitField(label=_("Unit"))
    starts_on = _day(False, label=_("From (empty: now)"))
    ends_on = _day(False, label=_("Until (empty: no end)"))
    reason = forms.CharField(label=_("Reason"), max_length=REASON_LENGTH)

    def wanted(self) -> dict[str, Any]:
        """Return what `grant_role` takes."""
        data = self.cleaned_data
        return {
            "user": data["person"],
            "role": data["role"],
            "unit": data["unit"],
            "starts_at": _midnight(data["starts_on"]),
            "expires_at": _midnight(data["ends_on"]),
            "reason": data["reason"],
        }


class RoleForm(forms.Form):
    """A role of the house."""

    slug = forms.SlugField(label=_("Slug"), max_length=40)
    name_es = forms.CharField(label=_("Name (Spanish)"), max_length=100)
    name_en = forms.CharField(label=_("Name (English)"), max_length=100)
    permissions = forms.MultipleChoiceField(
        label=_("Permissions"), choices=[(code, permission.name) for code, permission in PERMISSIONS.items()]
    )


class EmergencyForm(AccessForm):
    """Which role is needed where, for how long, and what has happened."""

    role = forms.ModelChoiceField(
        label=_("Role"), queryset=AccessRole.objects.none(), to_field_name="slug", empty_label=None
    )
    unit = UnitField(label=_("Unit"))
    minutes = forms.IntegerField(label=_("Minutes"), min_value=5, max_value=EmergencyAccess.MAX_MINUTES, initial=60)
    reason = forms.CharField(label=_("What has happened"), max_length=500)

    def wanted(self) -> dict[str, Any]:
        """Return what `request_emergency` takes."""
        return {name: self.cleaned_data[name] for name in ("role", "unit", "minutes", "reason")}


class ReviewForm(AccessForm):
    """Whose access is looked at, by whom, until when."""

    unit = UnitField(label=_("Unit"))
    reviewer = PersonField(label=_("Reviewer"), max_length=150)
    due_on = _day(True, label=_("Due"))

    def wanted(self) -> dict[str, Any]:
        """Return what `open_review` takes."""
        data = self.cleaned_data
        return {"unit": data["unit"], "reviewer": data["reviewer"], "due_at": _midnight(data["due_on"])}


class GroupForm(AccessForm):
    """Which group of the identity provider is to give which role, where."""

    group = forms.CharField(label=_("Group"), max_length=200)
    role = forms.ModelChoiceField(
        label=_("Role"), queryset=AccessRole.objects.none(), to_field_name="slug", empty_label=None
    )
    unit = UnitField(label=_("Unit"))


class AccountForm(forms.Form):
    """A new account of a service or an agent: its name, and who answers for it."""

    username = forms.CharField(label=_("Name"), max_length=150, validators=[User.username_validator])
    kind = forms.ChoiceField(
        label=_("Kind"), choices=[(kind, kind.label) for kind in User.Kind if kind != User.Kind.PERSON]
    )
    owner = PersonField(label=_("Answers for it"), max_length=150)


class AccountTokenForm(AccessForm):
    """A new token of a service or an agent: what for, how long, and what it opens."""

    name = forms.CharField(label=_("Name"), max_length=100)
    days = forms.IntegerField(label=_("Valid for days"), min_value=1, max_value=LONGEST_TOKEN.days, initial=90)
    unit = UnitField(label=_("Unit"))
    permissions = forms.MultipleChoiceField(
        label=_("Permissions (none chosen: whatever the account may)"),
        required=False,
        choices=[(code, permission.name) for code, permission in PERMISSIONS.items()],
    )

    def wanted(self) -> dict[str, Any]:
        """Return what `new_token` takes."""
        data = self.cleaned_data
        end = timezone.now() + timedelta(days=data["days"])
        return {"expires_at": end, **{name: data[name] for name in ("name", "unit", "permissions")}}
