"""What the bus knows of the holding: its units, told by the app that has them, which stands above the bus."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownUnit:
    """A unit: its id in the database, its slug in subjects, whether it is a subsidiary or the parent company."""

    id: int
    slug: str
    subsidiary: bool


Reader = Callable[[], Iterable[KnownUnit]]
_readers: list[Reader] = []


def register_units(read: Reader) -> None:
    """Let `read` tell which units there are. Raises ValueError when another function does already."""
    if _readers and _readers != [read]:
        raise ValueError(f"{_readers[0].__module__} tells the bus which units there are.")
    _readers[:] = [read]


def known_units() -> list[KnownUnit]:
    """Return the units of the loaded holding, none before it is loaded (one query). Raises DatabaseError."""
    return [unit for read in _readers for unit in read()]


def subsidiaries() -> list[str]:
    """Return the slugs of the subsidiaries, in alphabetical order. Raises DatabaseError."""
    return sorted(unit.slug for unit in known_units() if unit.subsidiary)
