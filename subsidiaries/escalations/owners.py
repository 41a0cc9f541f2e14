"""Who owns what at the holding: a mandate's body and seat, and the office under which a person decides it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from holding.models import Body, Mandate, Seat
from iam.authority.models import Office
from subsidiaries.escalations.models import Escalation

Matter = Escalation.Matter
MANDATES: Final[Mapping[str, str]] = {
    Matter.STAFFING: "ARP",
    Matter.QUALITY: "PMON",
    Matter.TRAINING: "TMS",
    Matter.FINANCE: "FIN",
    Matter.GOVERNANCE: "CGF",
}
SECURITY_SEAT: Final = ("c-suite", "ciso")  # no mandate of its own: the duty is the seat's
OFFICES: Final[Mapping[tuple[str, str], str]] = {
    ("c-suite", "ceo"): "group-ceo",
    ("c-suite", "cfo"): "group-cfo",
    ("c-suite", "ciso"): "group-cro",
    ("c-suite", "cdo"): "group-caio",
    ("founders", "chair"): "board",
}
"""The offices of the authority matrix that are held for a seat; who reports to such a seat decides by it."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns a matter; what the holding does not have is None or empty."""

    mandate: Mandate | None = None
    body: Body | None = None
    es: str = ""
    en: str = ""
    office: Office | None = None


def owners() -> dict[str, Owner]:
    """Return the owner of each matter (four queries)."""
    mandates = {one.code: one for one in Mandate.objects.select_related("owner_body", "owner_seat")}
    seats = {
        (seat.body.slug, seat.code): seat
        for seat in Seat.objects.filter(body__isnull=False).select_related("body").order_by("ordinal")
        if seat.body
    }
    by_id = {seat.pk: seat for seat in seats.values()}
    offices = {office.slug: office for office in Office.objects.filter(slug__in=set(OFFICES.values()))}
    found: dict[str, Owner] = {}
    for matter in Matter.values:
        mandate = mandates.get(MANDATES.get(matter, ""))
        seat = mandate.owner_seat if mandate else seats.get(SECURITY_SEAT)
        body = mandate.owner_body if mandate else (seat.body if seat else None)
        first = seat or next((one for one in seats.values() if one.body == body), None)
        found[matter] = Owner(
            mandate=mandate,
            body=body,
            es=seat.name_es if seat else "",
            en=seat.name_en if seat else "",
            office=offices.get(_office(first, by_id)),
        )
    return found


def _office(seat: Seat | None, by_id: Mapping[int, Seat]) -> str:
    """Return the office of a seat, or of the nearest one above it that has one."""
    for _ in range(len(by_id)):
        if seat is None or seat.body is None:
            return ""
        if office := OFFICES.get((seat.body.slug, seat.code)):
            return office
        seat = by_id.get(seat.reports_to_id or 0)
    return ""
