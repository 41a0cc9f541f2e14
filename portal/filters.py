"""Filters of API lists: what is not understood is refused, never ignored."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _
from django_filters.filterset import FilterSet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

PAGING = ("limit", "cursor")
Unfiltered = Callable[[QuerySet[Model]], QuerySet[Model]]
"""What a filterset may say of a list that nobody filters, so that no form has to be made."""
SHOWN = 60  # characters of a refused value that the answer repeats


def refuse_unknown_parameters(request: Request, allowed: tuple[str, ...]) -> None:
    """Raise ValidationError when the query has a parameter that is not allowed, or one of them twice."""
    mistakes: dict[str, list[str]] = {}
    for name, values in request.query_params.lists():
        if name not in allowed:
            known = ", ".join(allowed) or _("none")
            mistakes[name[:SHOWN]] = [_("Unknown parameter; known here: %(known)s.") % {"known": known}]
        elif len(values) > 1:
            mistakes[name] = [_("Given %(count)d times; give it once.") % {"count": len(values)}]
    if mistakes:
        raise ValidationError(mistakes)


class StrictFilterBackend(DjangoFilterBackend):  # type: ignore[misc]  # django-filter ships no types
    """Filters by a view's `filterset_class`; refuses unknown parameters, and values with those allowed."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Model], view: APIView) -> QuerySet[Model]:
        """Return the filtered rows. Raises ValidationError (400)."""
        kind = getattr(view, "filterset_class", None)
        if getattr(view, "detail", False):  # one object: its address says all
            refuse_unknown_parameters(request, ())
            return queryset
        names = tuple(kind.base_filters) if kind else ()
        refuse_unknown_parameters(request, (*names, *(PAGING if getattr(view, "paginator", None) else ())))
        unfiltered: Unfiltered | None = getattr(kind, "unfiltered", None)
        if unfiltered and not any(name in request.query_params for name in names):
            return unfiltered(queryset)  # making a form for nothing costs as much as the rows
        filterset: FilterSet | None = self.get_filterset(request, queryset, view)
        if filterset is None:
            return queryset
        if not filterset.is_valid():
            raise ValidationError(_mistakes(filterset))
        rows: QuerySet[Model] = filterset.qs
        return rows


def _mistakes(filterset: FilterSet) -> dict[str, list[str]]:
    mistakes: dict[str, list[str]] = {}
    for name, errors in filterset.form.errors.items():
        allowed = _allowed(filterset.form.fields[name])
        value = str(filterset.data.get(name, ""))[:SHOWN]
        mistakes[name] = (
            [_("“%(value)s” is not one of: %(allowed)s.") % {"value": value, "allowed": ", ".join(allowed)}]
            if allowed
            else [str(error) for error in errors]
        )
    return mistakes


def _allowed(field: Any) -> list[str]:
    """Return the values that a field takes, when they are a list."""
    if isinstance(field, forms.ModelChoiceField):
        queryset = field.queryset
        return [] if queryset is None else list(queryset.values_list(field.to_field_name or "pk", flat=True))
    if isinstance(field, forms.ChoiceField):
        return [str(option[0]) for option in field.widget.choices if option[0]]
    return []
