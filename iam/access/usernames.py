"""What an account may be called."""

from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.utils.deconstruct import deconstructible
from django.utils.translation import gettext_lazy as _

# Who acts in the ledger beside accounts; those with a slash in them are no usernames anyway.
RESERVED = frozenset({"operator", "portal", "arp", "identity-provider", "benchmark"})


@deconstructible
class UsernameValidator(UnicodeUsernameValidator):
    """Django's letters and signs, but no name under which the ledger has somebody who is no account."""

    def __call__(self, value: str) -> None:
        """Raise ValidationError for a malformed or reserved name."""
        super().__call__(value)
        if value.casefold() in RESERVED:
            raise ValidationError(
                _("The ledger uses this name for the portal itself: choose another."), code="reserved"
            )
