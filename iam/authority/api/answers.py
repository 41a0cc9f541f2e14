"""What the API of authority answers to: whoever calls, what they sent, and what a service refuses."""

from typing import Any, NoReturn

from rest_framework import status
from rest_framework.exceptions import APIException, PermissionDenied, ValidationError
from rest_framework.request import Request

from iam.access.models import User
from iam.authority import services

VIEW = "authority.view"
MANAGE = "authority.manage"
LACKING = (services.NotAllowedError, services.NotHolderError, services.NotAdopterError)


class ConflictError(APIException):
    """The key is of another request."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


def valid(serializer: Any) -> dict[str, Any]:
    """Return what was sent. Raises ValidationError."""
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def refuse(error: ValueError) -> NoReturn:
    """Answer with why a service refused: 403 where a right is lacking, 409 for a key in use, else 400."""
    if isinstance(error, LACKING):
        raise PermissionDenied(str(error)) from error
    if isinstance(error, services.KeyInUseError):
        raise ConflictError(str(error)) from error
    raise ValidationError({"detail": [str(error)]}) from error


def caller(request: Request) -> User:
    """Return who calls; `MayDo` has let nobody else through."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
