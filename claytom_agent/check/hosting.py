"""L3: does a host run the agent, under a lease and a manifest?"""

import msgspec

from claytom_agent.check.findings import Report
from claytom_agent.check.observer import Observer
from claytom_agent.client import BusError, Disconnected, NoAnswerError, NobodyThereError
from claytom_agent.messages import Pong, Presence, decode

FAULTS = (BusError, Disconnected, NoAnswerError, NobodyThereError)


async def check_host(observer: Observer, report: Report, pong: Pong) -> None:
    """Compare what the pong says with the lease of the division and with its manifest."""
    division = _division(observer)
    if division is None or division.division == observer.identity.lease:
        for what in ("lease", "manifest", "many agents"):
            report.skipped("L3", what, "the agent has a connection of its own: no host runs it")
        return
    await _check_lease(observer, report, division, pong)
    await _check_manifest(observer, report, division)
    if division.total > 1:
        report.passed("L3", "many agents", f"{division.total} in division {division.division}")
    else:
        report.skipped("L3", "many agents", "the division has one agent")


def _division(observer: Observer) -> Presence | None:
    for seen in reversed(observer.presences):
        try:
            return decode(Presence, seen.data)
        except msgspec.DecodeError:
            continue
    return None


async def _check_lease(observer: Observer, report: Report, division: Presence, pong: Pong) -> None:
    try:
        entry = await observer.bus.kv_get("CT_LEASES", division.division)
    except FAULTS as error:
        report.skipped("L3", "lease", f"the check cannot read the bucket CT_LEASES: {error}")
        return
    if entry is None or entry.value is None:
        remedy = "claim the division before running it, and renew the lease every 3 s"
        report.failed("L3", "lease", f"nobody holds {division.division}", remedy)
        return
    holder = msgspec.json.decode(entry.value).get("host")
    if holder == pong.host:
        report.passed("L3", "lease", f"{pong.host} holds {division.division}")
    else:
        report.failed("L3", "lease", f"{holder} holds it, {pong.host} answers", "stop at once when a lease is lost")


async def _check_manifest(observer: Observer, report: Report, division: Presence) -> None:
    try:
        entry = await observer.bus.kv_get("CT_SEATS", division.division)
    except FAULTS as error:
        report.skipped("L3", "manifest", f"the check cannot read the bucket CT_SEATS: {error}")
        return
    wanted = msgspec.json.decode(entry.value).get("generation", 0) if entry and entry.value else 0
    if division.observed_generation >= wanted:
        report.passed("L3", "manifest", f"generation {division.observed_generation} is run")
    else:
        why = f"generation {division.observed_generation} is run, {wanted} is wanted"
        report.failed("L3", "manifest", why, "read the manifest when command.sync comes, and every 30 s")
