"""One at a time decides about a unit's seats: an advisory lock, held until the end of the transaction."""

from typing import Final

from django.db import connection

SPACE: Final = 0x61727000  # "arp\0": with the unit's id, one cycle per unit


def lock_unit(*, unit_id: int) -> None:
    """Wait for the unit's cycle to end: whoever decides about a unit's seats holds this lock."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s, %s)", [SPACE, unit_id])


def try_lock_unit(*, unit_id: int) -> bool:
    """Take the lock of the unit if it is free; return whether it was."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_xact_lock(%s, %s)", [SPACE, unit_id])
        return bool(cursor.fetchone()[0])
