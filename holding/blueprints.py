"""Versions of blueprints: drafting, approving, revoking, halting; and by which version a seat's next agent is made.

The version in force for a seat is that of its last agent: a replacement never changes what an agent is, only a
rollout does. A version that is revoked or halted makes no further agents; its seats get the last good one before.

Every write runs in the caller's transaction, with its ledger entry.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import rfc8785
from django.db.models import Count, F, Max
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import services as audit
from claytom_agent import workers
from holding.models import Agent, Blueprint, BlueprintVersion, Seat, Unit

State = BlueprintVersion.State
LARGEST_SPEC: Final = 16_384  # bytes of its canonical form: it is in every manifest
KEYS: Final = ("worker", "for")
WORKER_KEYS: Final = ("kind", "params")


class SpecError(ValueError):
    """A specification by which no agent can be made; `faults` has a sentence for each mistake, with its place."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


class VersionError(ValueError):
    """An act that the state of the version does not allow; the sentence says why."""


# --- the specification -------------------------------------------------------------------------------------


def canonical(spec: Mapping[str, Any]) -> bytes:
    """Return the canonical form of a specification (RFC 8785). Raises SpecError for what JSON cannot say."""
    try:
        return rfc8785.dumps(spec)
    except rfc8785.CanonicalizationError as error:
        raise SpecError([str(error)]) from error


def digest(spec: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical form, in hexadecimal. Raises SpecError."""
    return sha256(canonical(spec)).hexdigest()


def check(spec: Any, *, blueprint: Blueprint) -> None:
    """Raise SpecError, naming every mistake with its place, unless agents of the blueprint can be made by it."""
    if not isinstance(spec, dict):
        raise SpecError([_("The specification is an object: {…}.")])
    found = [
        _("%(key)s: there is no such field, only %(known)s") % {"key": str(key)[:60], "known": ", ".join(KEYS)}
        for key in spec
        if key not in KEYS
    ]
    if spec.get("for") != blueprint.slug:
        found.append(_("for: it must say “%(slug)s”, whose blueprint this is") % {"slug": blueprint.slug})
    found += _worker_faults(spec.get("worker"))
    if not found and (size := len(canonical(spec))) > LARGEST_SPEC:
        found.append(_("It has %(size)d bytes, at most %(most)d.") % {"size": size, "most": LARGEST_SPEC})
    if found:
        raise SpecError(found)


def _worker_faults(worker: Any) -> list[str]:
    if not isinstance(worker, dict):
        return [_('worker: it must be an object with a kind, such as {"kind": "sim"}')]
    found = [
        _("worker.%(key)s: there is no such field, only %(known)s")
        % {"key": str(key)[:60], "known": ", ".join(WORKER_KEYS)}
        for key in worker
        if key not in WORKER_KEYS
    ]
    kind, params = worker.get("kind"), worker.get("params", {})
    if not isinstance(params, dict):
        return [*found, _("worker.params: it must be an object")]
    return [*found, *workers.faults(kind if isinstance(kind, str) else str(kind), params)]


# --- life of a version -------------------------------------------------------------------------------------


def draft(*, blueprint: Blueprint, spec: Any, author: str, note: str = "") -> BlueprintVersion:
    """Write the next version of a blueprint as a draft. Raises SpecError."""
    check(spec, blueprint=blueprint)
    Blueprint.objects.select_for_update().get(pk=blueprint.pk)  # numbers follow each other
    newest = blueprint.versions.aggregate(most=Max("version"))["most"] or 0
    version = BlueprintVersion.objects.create(
        blueprint=blueprint,
        version=newest + 1,
        spec=spec,
        digest=digest(spec),
        author=author,
        created_at=timezone.now(),
        note=note,
    )
    _record(version, "draft", actor=author, details={"note": note})
    return version


def edit(version: BlueprintVersion, *, spec: Any, note: str, actor: str) -> None:
    """Change a draft. Raises SpecError, VersionError."""
    if version.state != State.DRAFT:
        raise VersionError(_("Only a draft can be edited; write the next version."))
    check(spec, blueprint=version.blueprint)
    before = version.digest
    version.spec, version.digest, version.note = spec, digest(spec), note
    version.save(update_fields=["spec", "digest", "note"])
    _record(version, "edit", actor=actor, details={"note": note, "before": before})


def approve(version: BlueprintVersion, *, by: str) -> None:
    """Let agents be made by a draft; from then on it never changes. Raises VersionError, SpecError."""
    if version.state != State.DRAFT:
        raise VersionError(_("%(version)s is no draft any more.") % {"version": version})
    if by == version.author:
        raise VersionError(_("Nobody approves a version that they wrote themselves."))
    check(version.spec, blueprint=version.blueprint)  # what was known when it was written may have changed
    version.state, version.approved_at, version.approved_by = State.APPROVED, timezone.now(), by
    version.save(update_fields=["state", "approved_at", "approved_by"])
    _record(version, "approve", actor=by, details={"author": version.author})


def withdraw(version: BlueprintVersion, *, by: str, reason: str) -> None:
    """End a draft. Raises VersionError."""
    if version.state != State.DRAFT:
        raise VersionError(_("Only a draft is withdrawn; an approved version is revoked."))
    _end(version, State.WITHDRAWN, by=by, reason=reason)


def revoke(version: BlueprintVersion, *, by: str, reason: str) -> None:
    """Let no further agent be made by an approved version; ARP replaces those that there are.

    Raises VersionError for the only approved version of its blueprint: its seats would stay empty.
    """
    if version.state != State.APPROVED:
        raise VersionError(_("Only an approved version is revoked; a draft is withdrawn."))
    Blueprint.objects.select_for_update().get(pk=version.blueprint_id)  # two at once would leave none
    if not version.blueprint.versions.approved().exclude(pk=version.pk).exists():
        raise VersionError(
            _("%(version)s is the only approved version of its blueprint: approve another one first.")
            % {"version": version}
        )
    _end(version, State.REVOKED, by=by, reason=reason)


def _end(version: BlueprintVersion, state: BlueprintVersion.State, *, by: str, reason: str) -> None:
    version.state, version.ended_at, version.ended_by, version.ended_why = state, timezone.now(), by, reason
    version.save(update_fields=["state", "ended_at", "ended_by", "ended_why"])
    _record(version, "revoke" if state == State.REVOKED else "withdraw", actor=by, details={"reason": reason})


def halt(version: BlueprintVersion, *, actor: str, reason: str) -> bool:
    """Make no further agents by the version until it is released; return whether it was not halted yet."""
    now = timezone.now()
    halted = BlueprintVersion.objects.approved().filter(pk=version.pk, halted_at=None)
    if not halted.update(halted_at=now, halted_why=reason):
        return False
    version.halted_at, version.halted_why = now, reason
    _record(version, "halt", actor=actor, details={"reason": reason})
    return True


def release(version: BlueprintVersion, *, actor: str, reason: str) -> None:
    """Let agents be made again by a halted version. Raises VersionError."""
    if version.halted_at is None or version.state != State.APPROVED:
        raise VersionError(_("%(version)s is not halted.") % {"version": version})
    why = version.halted_why
    version.halted_at, version.halted_why = None, ""
    version.save(update_fields=["halted_at", "halted_why"])
    _record(version, "release", actor=actor, details={"reason": reason, "was": why})


def _record(version: BlueprintVersion, act: str, *, actor: str, details: Mapping[str, str]) -> None:
    after = {"state": str(version.state), "digest": version.digest, "halted": version.halted_at is not None}
    audit.record(
        actor=actor,
        action=f"blueprint.{act}",
        object=f"blueprint/{version.blueprint.slug}/{version.version}",
        after=after,
        details={**details, "digest": version.digest},
    )


# --- which version ----------------------------------------------------------------------------------------


def newest_approved() -> dict[str, BlueprintVersion]:
    """Return the newest good version of each blueprint, by its slug: for seats that never had an agent."""
    approved = list(BlueprintVersion.objects.approved().select_related("blueprint").order_by("version"))
    return {
        version.blueprint.slug: version
        for version in [*(one for one in approved if not one.good), *(one for one in approved if one.good)]
    }


def by_successor(*, seats: Sequence[Seat], last: Mapping[int, int]) -> dict[int, BlueprintVersion]:
    """Return by which version the next agent of each seat is made, by the seat.

    `last` is the version of each seat's last agent; of a seat that is not in it, it is read.
    Raises VersionError for a blueprint without an approved version, which the services do not let happen.
    """
    before = dict(last)
    unread = [seat.pk for seat in seats if seat.pk not in before]
    if unread:
        made = Agent.objects.filter(seat__in=unread, generation=F("seat__generation"))
        before.update(made.values_list("seat_id", "blueprint_id"))
    versions = {one.pk: one for one in BlueprintVersion.objects.select_related("blueprint").order_by("version")}
    newest = newest_approved()
    chosen: dict[int, BlueprintVersion] = {}
    found: dict[int, BlueprintVersion] = {}
    for seat in seats:
        holder = seat.role or seat.body
        slug = holder.slug if holder is not None else ""
        pk = before.get(seat.pk) or newest[slug].pk
        if pk not in found:
            found[pk] = _good(versions[pk], list(versions.values()))
        chosen[seat.pk] = found[pk]
    return chosen


def good_instead_of(version: BlueprintVersion) -> BlueprintVersion:
    """Return the version, if it is good; else the last good one before it, else the newest good one.

    When all are halted, the newest approved one: a seat is never blocked. Raises VersionError when there is none.
    """
    return _good(version, list(version.blueprint.versions.select_related("blueprint").order_by("version")))


def _good(version: BlueprintVersion, versions: Sequence[BlueprintVersion]) -> BlueprintVersion:
    if version.good:
        return version
    same = [one for one in versions if one.blueprint_id == version.blueprint_id and one.state == State.APPROVED]
    good = [one for one in same if one.good]
    before = [one for one in good if one.version < version.version]
    for choice in (before, good, same):
        if choice:
            return choice[-1]
    raise VersionError(_("No version of %(slug)s is approved.") % {"slug": version.blueprint.slug})


def held(*, blueprint: Blueprint, unit: Unit | None = None) -> Counter[int]:
    """Return how many agents in office each version of the blueprint made, in view; of a unit, or of all."""
    agents = Agent.objects.in_office().filter(blueprint__in=list(blueprint.versions.values_list("pk", flat=True)))
    if unit is not None:
        agents = agents.filter(unit=unit)
    return Counter(dict(agents.order_by().values_list("blueprint_id").annotate(n=Count("pk"))))


def in_force(*, blueprint: Blueprint, unit: Unit, other_than: BlueprintVersion | None = None) -> BlueprintVersion:
    """Return the good version that most of a unit's agents have; with `other_than`, of the others."""
    counts = held(blueprint=blueprint, unit=unit)
    if other_than is not None:
        del counts[other_than.pk]
    for pk, _count in counts.most_common():
        version = BlueprintVersion.objects.select_related("blueprint").get(pk=pk)
        if version.good:
            return version
    return newest_approved()[blueprint.slug]
