"""Blueprint versions as people decide them: one writes, somebody else approves, and the digest binds both."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.utils import translation

from audit.models import LedgerEntry
from holding import clock
from holding.models import Blueprint, BlueprintVersion
from holding.tests.factories import make_holding
from iam.access.models import User
from iam.access.rights import NotHeldError, RefusedError
from iam.access.tests.factories import make_person
from iam.authority import matrix
from iam.authority import services as authority
from iam.authority.models import Decision
from subsidiaries.replacement import versions

pytestmark = pytest.mark.django_db
YES, NO = Decision.Verdict.APPROVE, Decision.Verdict.REJECT


@pytest.fixture(autouse=True)
def holding(db: None) -> Iterator[None]:
    """A holding whose two CAIOs may decide; one of them writes versions herself."""
    make_holding(subsidiaries=("pricing",))
    authority.install_matrix(data=matrix.read_matrix(), actor="test")
    for name in ("ana", "carl"):
        authority.appoint_to_office(
            office="group-caio", person=make_person(name), actor="test", valid_from=clock.now()
        )
    with translation.override("en"):
        yield


def person(name: str) -> User:
    return User.objects.get(username=name)


def spec(drag: float = 0.1) -> dict[str, Any]:
    return {"worker": {"kind": "sim", "params": {"drag": drag}}, "for": "operator"}


def draft(by: str = "ana") -> BlueprintVersion:
    blueprint = Blueprint.objects.select_related("role", "body").get(slug="operator")
    return versions.draft(blueprint=blueprint, spec=spec(), note="slower", by=person(by))


def test_the_author_cannot_approve_and_somebody_else_can() -> None:
    version = draft()
    asked = versions.submit(version=version, by=person("ana"))
    assert (asked.matter.slug, asked.state, int(asked.value)) == ("blueprint-version", "pending", 1)
    with pytest.raises(authority.NotAllowedError):
        authority.decide(approval=asked, person=person("ana"), verdict=YES)
    version.refresh_from_db()
    assert version.state == "draft"
    assert authority.decide(approval=asked, person=person("carl"), verdict=YES).state == "executed"
    version.refresh_from_db()
    assert (version.state, version.approved_by) == ("approved", "carl")
    acts = LedgerEntry.objects.filter(object="blueprint/operator/2").order_by("id").values_list("action", "actor")
    assert list(acts) == [("blueprint.draft", "ana"), ("blueprint.approve", "carl")]


def test_a_submitted_draft_is_not_edited_and_is_asked_for_once() -> None:
    version = draft()
    asked = versions.submit(version=version, by=person("ana"))
    assert versions.submit(version=version, by=person("ana")) == asked
    with pytest.raises(RefusedError, match=f"Approval {asked.pk} of this draft is pending"):
        versions.edit(version=version, spec=spec(0.2), note="x", by=person("ana"))
    authority.decide(approval=asked, person=person("carl"), verdict=NO, note="too slow")
    versions.edit(version=version, spec=spec(0.2), note="less", by=person("ana"))
    again = versions.submit(version=version, by=person("ana"))
    assert again != asked
    assert authority.decide(approval=again, person=person("carl"), verdict=YES).state == "executed"


def test_what_is_approved_is_what_was_submitted() -> None:
    version = draft()
    asked = versions.submit(version=version, by=person("ana"))
    other = spec(0.9)
    BlueprintVersion.objects.filter(pk=version.pk).update(spec=other)  # as somebody with the database would
    done = authority.decide(approval=asked, person=person("carl"), verdict=YES)
    assert (done.state, BlueprintVersion.objects.get(pk=version.pk).state) == ("failed", "draft")
    assert "digest" in done.failure


def test_only_its_author_edits_submits_or_withdraws_a_draft() -> None:
    version = draft()
    for act in (
        lambda: versions.edit(version=version, spec=spec(), note="x", by=person("carl")),
        lambda: versions.submit(version=version, by=person("carl")),
        lambda: versions.withdraw(version=version, by=person("carl"), reason="x"),
    ):
        with pytest.raises(RefusedError, match="its author, ana"):
            act()
    asked = versions.submit(version=version, by=person("ana"))
    versions.withdraw(version=version, by=person("ana"), reason="not needed")
    asked.refresh_from_db()
    version.refresh_from_db()
    assert (version.state, asked.state) == ("withdrawn", "withdrawn")
    with pytest.raises(RefusedError, match="no draft any more"):
        versions.submit(version=version, by=person("ana"))


def test_another_worker_is_of_high_risk() -> None:
    version = draft()
    assert versions.risk(version) == versions.STANDARD
    version.spec = {"worker": {"kind": "another"}, "for": "operator"}
    assert versions.risk(version) == versions.HIGH_RISK


def test_without_the_permission_nothing_is_written() -> None:
    viewer = make_person("vic", role="viewer")
    version = draft()
    blueprint = version.blueprint
    acts: list[Callable[[], object]] = [
        lambda: versions.draft(blueprint=blueprint, spec=spec(), note="x", by=viewer),
        lambda: versions.revoke(version=version, by=viewer, reason="x"),
        lambda: versions.release(version=version, by=viewer, reason="x"),
    ]
    for act in acts:
        with pytest.raises(NotHeldError, match=r"blueprints\.manage"):
            act()
    assert BlueprintVersion.objects.filter(blueprint=blueprint).count() == 2


def test_a_mistaken_specification_is_named_line_by_line() -> None:
    wrong = {"worker": {"kind": "gpt"}, "for": "director", "limits": {}}
    with pytest.raises(versions.SpecRefusedError) as refused:
        versions.draft(blueprint=Blueprint.objects.get(slug="operator"), spec=wrong, note="x", by=person("ana"))
    assert [fault.partition(":")[0] for fault in refused.value.faults] == ["limits", "for", "worker.kind"]
