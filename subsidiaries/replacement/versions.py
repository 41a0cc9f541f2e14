"""What people do with blueprint versions: draft, edit, submit, withdraw, revoke, release.

A draft is submitted by its author alone, who may not decide the approval; what is approved is the digest of the
draft as it was submitted. While the approval is pending the draft is not edited.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from holding import blueprints, scope
from holding.blueprints import SpecError, VersionError
from holding.models import Blueprint, BlueprintVersion, Unit
from iam.access.models import User
from iam.access.rights import RefusedError, rights_of
from iam.authority import services as authority
from iam.authority.models import Approval, Matter

MANAGE: Final = "blueprints.manage"
MATTER: Final = "blueprint-version"
ACTION: Final = "blueprint.approve"
NOTE_LENGTH: Final = 500
STANDARD, HIGH_RISK = 1, 2


class SpecRefusedError(RefusedError):
    """A specification by which no agent can be made; `faults` has a sentence for each mistake."""

    def __init__(self, error: SpecError) -> None:
        super().__init__(str(error))
        self.faults = error.faults


@transaction.atomic
def draft(*, blueprint: Blueprint, spec: Any, note: str, by: User) -> BlueprintVersion:
    """Write the next version of a blueprint as a draft. Raises NotHeldError, SpecRefusedError, RefusedError."""
    rights_of(by).require(MANAGE)
    note = _noted(note)
    try:
        return blueprints.draft(blueprint=blueprint, spec=spec, author=by.get_username(), note=note)
    except SpecError as error:
        raise SpecRefusedError(error) from error


@transaction.atomic
def edit(*, version: BlueprintVersion, spec: Any, note: str, by: User) -> BlueprintVersion:
    """Change one's own draft that is not submitted. Raises as `draft` does."""
    found = _own_draft(version, by)
    note = _noted(note)
    try:
        blueprints.edit(found, spec=spec, note=note, actor=by.get_username())
    except SpecError as error:
        raise SpecRefusedError(error) from error
    return found


@transaction.atomic
def submit(*, version: BlueprintVersion, by: User) -> Approval:
    """Ask for the approval of one's own draft, or return the pending one. Raises NotHeldError, RefusedError."""
    rights_of(by).require(MANAGE)
    found = _locked(version)
    if found.author != by.get_username():
        raise RefusedError(_("A draft is submitted by its author, %(author)s.") % {"author": found.author})
    if (asked := pending(found)) is not None:
        return asked
    if found.state != BlueprintVersion.State.DRAFT:
        raise RefusedError(_("%(version)s is no draft any more.") % {"version": found})
    with scope.opened(scope.EVERYTHING):
        request = _request(found, by)
        try:
            return authority.request_approval(request=request)
        except (authority.NoAuthorityError, Matter.DoesNotExist, ValueError) as error:
            raise RefusedError(str(error)) from error


def _request(version: BlueprintVersion, by: User) -> authority.Request:
    before = approvals_of(version).count()
    return authority.Request(
        matter=MATTER,
        unit=Unit.objects.get(kind=Unit.Kind.CORPORATE),
        value=Decimal(risk(version)),
        title=_("Blueprint version %(version)s") % {"version": version},
        reason=version.note,
        key=f"blueprint/{version.blueprint.slug}/{version.version}/{before + 1}",
        requester=by,
        parties=(by,),
        action=ACTION,
        parameters={
            "blueprint": version.blueprint.slug,
            "version": version.version,
            "digest": version.digest,
            "author": version.author,
        },
    )


def risk(version: BlueprintVersion) -> int:
    """Return the level at which a version is decided: high where its worker is not that of the last approved one.

    Other parameters of the same worker are standard.
    """
    approved = version.blueprint.versions.approved().exclude(pk=version.pk).order_by("-version").first()
    kinds = {one.spec.get("worker", {}).get("kind") for one in (version, approved) if one is not None}
    return STANDARD if approved is not None and len(kinds) == 1 else HIGH_RISK


def approvals_of(version: BlueprintVersion) -> QuerySet[Approval]:
    """Return the approvals, in view, that were asked for a version, the newest first."""
    key = f"blueprint/{version.blueprint.slug}/{version.version}/"
    return Approval.objects.filter(action=ACTION, key__startswith=key).order_by("-pk")


def pending(version: BlueprintVersion) -> Approval | None:
    """Return the approval of a version that waits for a decision, whoever asks; None when there is none."""
    with scope.opened(scope.EVERYTHING):
        return approvals_of(version).filter(state=Approval.State.PENDING).first()


@transaction.atomic
def withdraw(*, version: BlueprintVersion, by: User, reason: str) -> BlueprintVersion:
    """End one's own draft; a pending approval is withdrawn with it. Raises NotHeldError, RefusedError."""
    rights_of(by).require(MANAGE)
    found, why = _locked(version), _given(reason)
    if found.author != by.get_username():
        raise RefusedError(_("A draft is withdrawn by its author, %(author)s.") % {"author": found.author})
    asked = pending(found)
    if asked is not None:
        authority.withdraw(approval=asked, person=by)
    return _done(found, lambda: blueprints.withdraw(found, by=by.get_username(), reason=why))


@transaction.atomic
def revoke(*, version: BlueprintVersion, by: User, reason: str) -> BlueprintVersion:
    """Let no further agent be made by a version, and its agents be replaced. Raises NotHeldError, RefusedError."""
    rights_of(by).require(MANAGE)
    found, why = _locked(version), _given(reason)
    return _done(found, lambda: blueprints.revoke(found, by=by.get_username(), reason=why))


@transaction.atomic
def release(*, version: BlueprintVersion, by: User, reason: str) -> BlueprintVersion:
    """Let agents be made again by a version that was halted. Raises NotHeldError, RefusedError."""
    rights_of(by).require(MANAGE)
    found, why = _locked(version), _given(reason)
    return _done(found, lambda: blueprints.release(found, actor=by.get_username(), reason=why))


def _done(version: BlueprintVersion, act: Any) -> BlueprintVersion:
    try:
        act()
    except VersionError as error:
        raise RefusedError(str(error)) from error
    return version


def _own_draft(version: BlueprintVersion, by: User) -> BlueprintVersion:
    rights_of(by).require(MANAGE)
    found = _locked(version)
    if found.author != by.get_username():
        raise RefusedError(
            _("A draft is edited by its author, %(author)s; write a version of your own.")
            % {"author": found.author}
        )
    if found.state != BlueprintVersion.State.DRAFT:
        raise RefusedError(_("Only a draft can be edited; write the next version."))
    if (asked := pending(found)) is not None:
        raise RefusedError(
            _("Approval %(number)d of this draft is pending: withdraw it, and then edit the draft.")
            % {"number": asked.pk}
        )
    return found


def _locked(version: BlueprintVersion) -> BlueprintVersion:
    return BlueprintVersion.objects.for_listing().select_for_update(of=("self",)).get(pk=version.pk)


def _noted(note: str) -> str:
    note = note.strip()
    if not note or len(note) > NOTE_LENGTH:
        raise RefusedError(
            _("Say in 1 to %(count)d characters what the version is for: whoever approves it reads it.")
            % {"count": NOTE_LENGTH}
        )
    return note


def _given(reason: str) -> str:
    reason = reason.strip()
    if not reason or len(reason) > NOTE_LENGTH:
        raise RefusedError(_("Say why: the ledger keeps it."))
    return reason


# --- the action of an approval -----------------------------------------------------------------------------


def _named(parameters: Mapping[str, Any]) -> BlueprintVersion | None:
    number = parameters.get("version")
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    found = BlueprintVersion.objects.select_related("blueprint__role", "blueprint__body")
    return found.filter(blueprint__slug=str(parameters.get("blueprint")), version=number).first()


def verify(parameters: Mapping[str, Any]) -> None:
    """Raise ValueError unless the parameters name a draft with the digest that is to be approved."""
    version = _named(parameters)
    if version is None:
        raise ValueError(_("There is no such blueprint version."))
    if version.state != BlueprintVersion.State.DRAFT:
        raise ValueError(_("%(version)s is no draft any more.") % {"version": version})
    if (version.digest, version.author) != (parameters.get("digest"), parameters.get("author")):
        raise ValueError(_("The draft is not the one that was submitted: its digest differs."))
    if blueprints.digest(version.spec) != version.digest:
        raise ValueError(_("The digest of the draft is not that of its specification."))


def run(approval: Approval) -> None:
    """Let agents be made by the version, in the name of those who decided."""
    version = _named(approval.parameters)
    if version is None:
        raise ValueError(_("There is no such blueprint version."))
    deciders = sorted(set(approval.decisions.values_list("person__username", flat=True)))
    blueprints.approve(_locked(version), by=", ".join(deciders)[:200] or f"approval {approval.pk}")


def confirm(approval: Approval) -> bool:
    """Return whether the version is approved, with the digest that was approved."""
    version = _named(approval.parameters)
    return version is not None and (version.state, version.digest) == (
        BlueprintVersion.State.APPROVED,
        approval.parameters["digest"],
    )
