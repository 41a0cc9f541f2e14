"""Pages of long lists by key: page 500 costs what page 1 costs."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpRequest

Row = TypeVar("Row", bound=Model)
LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page begins: after or before a primary key, or at the start."""

    after: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows of a list, and the keys from which the pages around begin (None: there is none)."""

    rows: list[Row]
    previous: int | None
    next: int | None


def position(request: HttpRequest) -> Position:
    """Return the position in the query string; what is no key is ignored."""
    return Position(_key(request.GET.get("after")), _key(request.GET.get("before")))


def _key(text: str | None) -> int | None:
    if text and text.isascii() and text.isdigit() and len(text) <= 19:
        return min(int(text), LARGEST)
    return None


def page(queryset: QuerySet[Row], at: Position, *, size: int, newest_first: bool = False) -> Page[Row]:
    """Return up to `size` rows by primary key, ascending unless `newest_first` (one query)."""
    backwards = at.before is not None
    key = at.before if backwards else at.after
    if key is not None:
        higher = backwards == newest_first
        queryset = queryset.filter(**{"pk__gt" if higher else "pk__lt": key})
    rows = list(queryset.order_by("-pk" if backwards != newest_first else "pk")[: size + 1])
    more = len(rows) > size
    rows = rows[:size]
    if backwards:
        rows.reverse()
    if not rows:
        return Page([], None, None)
    has_previous, has_next = (more, True) if backwards else (at.after is not None, more)
    return Page(rows, rows[0].pk if has_previous else None, rows[-1].pk if has_next else None)
