"""What the views of the access API share: who calls, how a refusal is answered, how what is missing is named."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db.models import Model
from django.http import Http404
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.viewsets import GenericViewSet

from iam.access.confirmation import is_confirmed
from iam.access.models import User
from iam.access.rights import NotHeldError, RefusedError

Row = TypeVar("Row", bound=Model)
NUMBER = "[0-9]{1,18}"
USERNAME = r"[\w.@+-]+"


@contextmanager
def refusals() -> Iterator[None]:
    """Answer what a service refuses: 403 for a right that is lacking, 400 for the rest, with its sentence."""
    try:
        yield
    except NotHeldError as error:
        raise PermissionDenied(str(error)) from error
    except RefusedError as error:
        raise ValidationError({"detail": [str(error)]}) from error


def caller(request: Request) -> User:
    """Return who calls: `MayDo` lets only accounts through."""
    user: Any = request.user
    account: User = user
    return account


def require_confirmation(request: Request) -> None:
    """Raise PermissionDenied for a session whose person has not shown lately who they are.

    As on the pages: a browser that is left open must not make what outlives it. A token is what it shows each time.
    """
    if request.auth is None and not is_confirmed(request._request):
        raise PermissionDenied(_("Show again who you are, at /account/confirm/; then ask again."))


class NamedViewSet(GenericViewSet[Row]):
    """Rows of which each that is not there, or not in view, is answered with the sentence `missing`."""

    missing: str | Promise
    """The sentence, with %(key)s for what was asked for."""

    def get_object(self) -> Row:
        """Return the row. Raises Http404."""
        try:
            return super().get_object()
        except Http404 as error:
            key = self.kwargs[self.lookup_url_kwarg or self.lookup_field]
            raise Http404(str(self.missing) % {"key": key}) from error
