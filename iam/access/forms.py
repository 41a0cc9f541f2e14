"""Forms of people and tokens."""

from typing import Any

from django import forms
from django.contrib.auth import password_validation
from django.utils.translation import gettext_lazy as _

from iam.access.models import ApiToken, User
from iam.access.services import PERSON_FIELDS, administrators, person_state


class PersonForm(forms.ModelForm):
    """A person; the password is asked for at first, and later only when it is to change."""

    password = forms.CharField(
        label=_("Password"),
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("At least 12 characters. Leave it empty to keep the present one."),
    )

    class Meta:
        model = User
        fields = PERSON_FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance.pk:
            self.fields["password"].required = True

    def clean_password(self) -> str:
        """Return the password. Raises ValidationError when it is weak."""
        password: str = self.cleaned_data["password"]
        if password:
            password_validation.validate_password(password, self.instance)
        return password

    def clean(self) -> dict[str, Any]:
        """Refuse to take the rights of the last administrator."""
        data = super().clean() or self.cleaned_data
        others = administrators().exclude(pk=self.instance.pk)
        stays = all(data.get(name, True) for name in ("is_active", "is_staff", "cleared"))
        if self.instance.pk and self.instance.is_superuser and not stays and not others.exists():
            raise forms.ValidationError(
                _("Nobody could administer the portal any more: give somebody else the rights first.")
            )
        return data

    def changed_state(self) -> dict[str, Any]:
        """Return the fields to write."""
        state = person_state(self.instance)
        return {name: state[name] for name in PERSON_FIELDS}


class TokenForm(forms.ModelForm):
    """A new token: whose, what for, until when."""

    class Meta:
        model = ApiToken
        fields = ("user", "name", "expires_at")
