"""Pages of API lists: by key, so that page 500 costs what page 1 costs."""

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.views import APIView

LARGEST_PAGE = 500


class KeysetPagination(CursorPagination):
    """Cursor pagination; `limit` (1 to 500, default 100) and `cursor` are the parameters.

    A view may set `ordering`; the default is the newest id first.
    """

    ordering = "-id"
    page_size = 100
    page_size_query_param = "limit"
    max_page_size = LARGEST_PAGE

    def get_page_size(self, request: Request) -> int:
        """Return the page size asked for. Raises ValidationError for anything but 1 to 500."""
        asked = request.query_params.get("limit")
        if asked is None:
            return self.page_size
        if not (asked.isascii() and asked.isdigit() and len(asked) <= 4 and 1 <= int(asked) <= LARGEST_PAGE):
            raise ValidationError(
                {"limit": [_("“%(value)s” is not a whole number from 1 to 500.") % {"value": asked[:40]}]}
            )
        return int(asked)

    def get_ordering(self, request: Request, queryset: QuerySet[Model], view: APIView) -> tuple[str, ...]:
        """Return the view's ordering, which must be unique or nearly so."""
        ordering: str | Sequence[str] = getattr(view, "ordering", self.ordering)
        return (ordering,) if isinstance(ordering, str) else tuple(ordering)

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Return the cursor of the request. Raises ValidationError for one that was not given out."""
        try:
            cursor = super().decode_cursor(request)
        except NotFound as error:
            raise _unknown_cursor() from error
        if cursor is not None and "\0" in str(cursor.position):  # PostgreSQL takes no such text
            raise _unknown_cursor()
        return cursor

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any] | None:
        """Return the rows of the page asked for. Raises ValidationError as above."""
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, DjangoValidationError) as error:  # a position that is no value of the column
            raise _unknown_cursor() from error


def _unknown_cursor() -> ValidationError:
    return ValidationError({"cursor": [_("Unknown cursor: take it from “next” or “previous” of a page.")]})
