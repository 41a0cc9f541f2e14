"""Forms of the pages about oneself and of invitations."""

import zoneinfo
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.auth import password_validation
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from holding.models import Unit
from iam.access.models import AccessRole, ApiToken, Invitation, User
from iam.access.permissions import PERMISSIONS
from iam.access.rights import rights_of

NEW_PASSWORD = {"autocomplete": "new-password"}
MOST_DAYS = 365


class ProfileForm(forms.ModelForm):
    """Name, language and time zone."""

    class Meta:
        model = User
        fields = ("first_name", "last_name", "language", "time_zone")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zones = sorted(zone for zone in zoneinfo.available_timezones() if "/" in zone)
        self.fields["time_zone"] = forms.ChoiceField(
            label=_("Time zone"), required=False, choices=[("", "UTC"), *((zone, zone) for zone in zones)]
        )
        self.fields["first_name"].widget.attrs["autocomplete"] = "given-name"
        self.fields["last_name"].widget.attrs["autocomplete"] = "family-name"


class EmailForm(forms.Form):
    """An e-mail address."""

    email = forms.EmailField(
        label=_("E-mail"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )


class PasswordForm(forms.Form):
    """A new password, twice. Takes the person as `user`, or None."""

    password = forms.CharField(
        label=_("New password"),
        strip=False,
        max_length=256,
        widget=forms.PasswordInput(attrs=NEW_PASSWORD),
        help_text=_("At least 12 characters."),
    )
    again = forms.CharField(
        label=_("The same again"), strip=False, max_length=256, widget=forms.PasswordInput(attrs=NEW_PASSWORD)
    )

    def __init__(self, *args: Any, user: User | None = None, **kwargs: Any) -> None:
        self.user = user
        super().__init__(*args, **kwargs)

    def clean(self) -> dict[str, Any]:
        """Refuse two different passwords and weak ones."""
        data = super().clean() or self.cleaned_data
        password = data.get("password")
        if password and password != data.get("again"):
            self.add_error("again", _("The two are not the same."))
        elif password:
            try:
                password_validation.validate_password(password, self.user)
            except forms.ValidationError as error:
                self.add_error("password", error)
        return data


class AcceptForm(PasswordForm):
    """What an invited person says of themselves."""

    username = forms.CharField(
        label=_("Name to sign in with"),
        max_length=150,
        validators=[User.username_validator],
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none"}),
    )
    first_name = forms.CharField(
        label=_("First name"), max_length=150, widget=forms.TextInput(attrs={"autocomplete": "given-name"})
    )
    last_name = forms.CharField(
        label=_("Last name"), max_length=150, widget=forms.TextInput(attrs={"autocomplete": "family-name"})
    )
    field_order = ("username", "first_name", "last_name", "password", "again")

    def clean_username(self) -> str:
        """Return the name. Raises ValidationError when it is in use."""
        name: str = self.cleaned_data["username"]
        if User.objects.filter(username__iexact=name).exists():
            raise forms.ValidationError(_("This name is in use."))
        return name


class InvitationForm(forms.ModelForm):
    """Whom to invite, and to which role."""

    class Meta:
        model = Invitation
        fields = ("email", "first_name", "last_name", "role", "unit", "language")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"] = forms.ModelChoiceField(
            AccessRole.objects.all(), label=_("Role"), to_field_name="slug"
        )
        self.fields["unit"] = forms.ModelChoiceField(
            Unit.objects.order_by("slug"),
            label=_("Unit"),
            required=False,
            to_field_name="slug",
            empty_label=_("the whole holding"),
        )
        self.fields["language"] = forms.ChoiceField(
            label=_("Language"), choices=[("es", _("Spanish")), ("en", _("English"))]
        )


class OwnTokenForm(forms.Form):
    """A token of one's own: what for, what it may, where, and how long. Takes the person as `user`."""

    name = forms.CharField(label=_("Name"), max_length=100)
    days = forms.IntegerField(
        label=_("Valid for days"), min_value=1, max_value=MOST_DAYS, initial=90, help_text=_("At most a year.")
    )
    unit = forms.ModelChoiceField(
        Unit.objects.order_by("slug"),
        label=_("Unit"),
        required=False,
        to_field_name="slug",
        empty_label=_("all that you may see"),
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        held = rights_of(user).account
        self.fields["permissions"] = forms.MultipleChoiceField(
            label=_("Permissions"),
            required=False,
            choices=[(code, kind.name) for code, kind in PERMISSIONS.items() if held.has(code)],
            widget=forms.CheckboxSelectMultiple,
            help_text=_("None: all of yours."),
        )

    def clean_name(self) -> str:
        """Return the name. Raises ValidationError when the person has a token of that name."""
        name: str = self.cleaned_data["name"]
        if ApiToken.objects.filter(user=self.user, name=name).exists():
            raise forms.ValidationError(_("You have a token of this name."))
        return name

    def wanted(self) -> dict[str, Any]:
        """Return what `issue_token` takes."""
        data = self.cleaned_data
        return {
            "name": data["name"],
            "expires_at": timezone.now() + timedelta(days=data["days"]),
            "permissions": data["permissions"],
            "unit": data["unit"],
        }
