"""Filters of the API's ledger."""

import django_filters as filters

from audit.models import LedgerEntry


class LedgerFilter(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Entries by object, actor and action: each has its index, so the newest come at once."""

    object = filters.CharFilter(max_length=200, help_text="Exactly this object, such as `seat/pricing/op-0042`.")
    actor = filters.CharFilter(max_length=200, help_text="Exactly this actor.")
    action = filters.CharFilter(max_length=100, help_text="Exactly this action, such as `seat.appoint`.")

    class Meta:
        model = LedgerEntry
        fields: list[str] = []
