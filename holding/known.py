"""Told to the bus: which units there are, by whose slugs subjects are spelt."""

from collections.abc import Iterator

from bus.units import KnownUnit, register_units
from holding.models import Unit


def read_units() -> Iterator[KnownUnit]:
    """Yield the units in view: all of them, in the processes that speak to the bus."""
    for pk, slug, kind in Unit.objects.order_by("position").values_list("id", "slug", "kind"):
        yield KnownUnit(pk, slug, kind == Unit.Kind.SUBSIDIARY)


register_units(read_units)
