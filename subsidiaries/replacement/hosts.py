"""Hosts that come and go: who runs a division from now on, and on which terms."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from django.db import connection, transaction
from django.utils import timezone

from bus import fencing, mailbox
from bus.fencing import Fenced
from bus.leases import BOOK, Claim, Standing
from holding import services as holding
from holding.models import Agent, Division
from subsidiaries.replacement import observing
from subsidiaries.replacement.models import DivisionState

REFUSALS: Final[dict[Standing, dict[str, object]]] = {
    Standing.SUPERSEDED: {
        "code": "fenced",
        "reason": "another host has taken the division since",
        "retry_after_s": 60,
    },
    Standing.UNKNOWN: {
        "code": "unknown-epoch",
        "reason": "the lease bucket has no such lease; acquire it and say its revision",
        "retry_after_s": 2,
    },
    Standing.IMPOSTOR: {
        "code": "not-the-holder",
        "reason": "the lease of this epoch is another host's",
        "retry_after_s": 60,
    },
}
UNKNOWN_DIVISION: Final = {
    "code": "unknown-division",
    "reason": "the holding has no such division; look at the manifests again",
    "retry_after_s": 30,
}
WELCOMED: Final = """
    update replacement_divisionstate d set host = i.host, epoch = i.epoch,
           full_at = case when d.epoch = i.epoch then d.full_at end  -- a full report of another tenure says nothing
      from unnest(%s::bigint[], %s::bigint[], %s::text[]) as i(division_id, epoch, host)
     where d.division_id = i.division_id and d.epoch <= i.epoch
 returning d.division_id
"""


@transaction.atomic
def welcome(*, claims: Iterable[Claim]) -> dict[Claim, Mapping[str, object]]:
    """Note which hosts run divisions from now on; return the terms of each claim.

    Refuses an epoch that another host has, that was superseded, or that the lease bucket never gave. The terms
    repeat what is open in the mailboxes of the division's agents. Raises LeasesUnavailableError when the bucket has
    to be asked and does not answer.
    """
    wanted = list(dict.fromkeys(claims))
    divisions = {row.key: row for row in Division.objects.filter(key__in={claim.division for claim in wanted})}
    known = [claim for claim in wanted if claim.division in divisions]
    verdicts = BOOK.judge(known)
    unheld = [claim for claim in known if not verdicts[claim].holds]
    now = timezone.now()
    fencing.report(Fenced(*_names(claim), verdicts[claim], "agent.hello", 1, now) for claim in unheld)
    held = {divisions[claim.division].pk: claim for claim in known if verdicts[claim].holds}
    observing.lock_divisions(division_ids=held)
    taken = _take(held)
    letters = _letters(taken)
    terms: dict[Claim, Mapping[str, object]] = dict.fromkeys(wanted, UNKNOWN_DIVISION)
    terms.update({claim: REFUSALS[verdicts[claim].standing] for claim in unheld})
    for claim in known:
        if verdicts[claim].holds:
            division = divisions[claim.division]
            told = REFUSALS[Standing.SUPERSEDED]  # by a host that said hello since the verdict
            if division.pk in taken:
                told = _terms(division, claim, letters.get(division.pk, []))
            terms[claim] = told
    return terms


def _names(claim: Claim) -> tuple[str, int, str]:
    return claim.division, claim.epoch, claim.host


def _take(held: Mapping[int, Claim]) -> set[int]:
    if not held:
        return set()
    columns = zip(*((pk, claim.epoch, claim.host) for pk, claim in held.items()), strict=True)
    with connection.cursor() as cursor:
        cursor.execute(WELCOMED, [list(column) for column in columns])
        return {pk for (pk,) in cursor.fetchall()}


def _terms(division: Division, claim: Claim, letters: Sequence[object]) -> dict[str, object]:
    settings = holding.settings_of(division)
    return {
        "epoch": claim.epoch,
        "manifest_generation": division.manifest_generation,
        "kpi_interval_s": settings["kpi_interval_s"],
        "presence_interval_s": settings["presence_interval_s"],
        "open": letters,
    }


def _letters(division_ids: Collection[int]) -> dict[int, list[dict[str, object]]]:
    """Return what is open in the mailboxes of agents, by their division; those without mail are left out."""
    office = Agent.objects.in_office().filter(seat__division_id__in=division_ids)
    waiting = mailbox.with_mail(among=office.values("subject"))
    addresses: dict[int, list[str]] = {}
    for subject, division in office.filter(subject__in=waiting).values_list("subject", "seat__division_id"):
        addresses.setdefault(division, []).append(subject)
    return {division: mailbox.open_mail(addresses=theirs) for division, theirs in addresses.items()}


def farewell(*, division: str, epoch: int) -> None:
    """Note that the host of a division has given it back; a later host's epoch is left alone."""
    DivisionState.objects.filter(division__key=division, epoch=epoch).update(host="")
