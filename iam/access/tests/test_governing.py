"""Emergency access, reviews, accounts of services, and who can do what: rules, times and races."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from audit.models import LedgerEntry
from bus.models import OutboxMessage
from holding import scope
from holding.models import Unit
from holding.tests.factories import make_holding
from iam.access import explaining
from iam.access.bindings import revoke_binding
from iam.access.emergencies import decide_emergency, end_emergency, request_emergency
from iam.access.emergencies import settle_emergencies as settle
from iam.access.grants import open_for
from iam.access.models import AccessReview, AccessRole, EmergencyAccess, RoleBinding, User
from iam.access.reviews import close_review, decide_item, open_review
from iam.access.rights import NotHeldError, RefusedError, rights_of
from iam.access.service_accounts import create_agent_account, create_service_account, deactivate_account
from iam.access.services import issue_token, update_person
from iam.access.tests.factories import PASSWORD, make_binding, make_person
from iam.access.tests.test_bindings import race, role, unit

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def units(request: pytest.FixtureRequest) -> None:
    if "transactional_db" not in request.fixturenames:
        make_holding(subsidiaries=("pricing", "tax"))


# --- emergency access --------------------------------------------------------------------------------------


def ask(user: User, at: Unit | None = None, minutes: int = 30) -> EmergencyAccess:
    return request_emergency(user=user, role=role("administrator"), unit=at, minutes=minutes, reason="fire")


def told() -> list[str]:
    return [json.loads(bytes(row.payload)).get("decision", "raise") for row in OutboxMessage.objects.order_by("id")]


def test_emergency_access_is_given_by_a_second_person_and_ends() -> None:
    head = make_person("head", role="subsidiary-head", unit=unit("pricing"))
    chief = make_person("chief")
    OutboxMessage.objects.all().delete()
    emergency = ask(head, unit("pricing"))
    with pytest.raises(NotHeldError):
        ask(head, unit("tax"))
    with pytest.raises(RefusedError, match="waits already"):
        ask(head, unit("pricing"))
    with pytest.raises(NotHeldError, match="second person"):
        decide_emergency(by=head, emergency=emergency, approve=True)
    given = decide_emergency(by=chief, emergency=emergency, approve=True)
    assert given.binding is not None
    assert given.binding.expires_at == given.binding.starts_at + timedelta(minutes=30)
    assert rights_of(head).account.allows("tokens.manage") is False  # about the holding, given for a unit
    with pytest.raises(RefusedError, match="waits no more"):
        decide_emergency(by=chief, emergency=emergency, approve=False)
    with pytest.raises(NotHeldError):
        end_emergency(by=make_person("eva", role="viewer"), emergency=emergency)
    assert end_emergency(by=head, emergency=emergency).state == "ended"
    assert not head.bindings.in_force().filter(source="break-glass").exists()
    assert told() == ["raise", "active", "ended"]
    actions = LedgerEntry.objects.filter(object=f"emergency/{emergency.pk}").order_by("id")
    assert list(actions.values_list("action", flat=True)) == [
        "emergency.request",
        "emergency.approve",
        "emergency.end",
    ]


@pytest.mark.parametrize("minutes", [4, 241])
def test_emergency_access_is_neither_longer_nor_shorter(minutes: int) -> None:
    with pytest.raises(RefusedError):
        ask(make_person(), minutes=minutes)


def test_time_refuses_requests_and_ends_access_without_waiting_for_the_task() -> None:
    ana, chief = make_person("ana"), make_person("chief")
    late, given = ask(ana), ask(ana, unit("tax"))
    given = decide_emergency(by=chief, emergency=given, approve=True)
    now = timezone.now()
    EmergencyAccess.objects.filter(pk=late.pk).update(requested_at=now - HOUR)
    RoleBinding.objects.filter(emergency=given).update(starts_at=now - HOUR, expires_at=now)
    with pytest.raises(RefusedError, match="waits no more"):
        decide_emergency(by=chief, emergency=late, approve=True)
    with pytest.raises(RefusedError, match="not in force"):
        end_emergency(by=ana, emergency=given)
    assert (settle(), settle()) == (2, 0)
    states = EmergencyAccess.objects.order_by("id").values_list("state", "decided_by__username")
    assert list(states) == [("refused", None), ("ended", "chief")]


def test_revoking_the_binding_of_an_emergency_ends_it() -> None:
    ana, chief, root = make_person("ana"), make_person("chief"), make_person("root", role="administrator")
    given = decide_emergency(by=chief, emergency=ask(ana), approve=True)
    assert given.binding is not None
    revoke_binding(by=root, binding=given.binding, reason="enough")
    given.refresh_from_db()
    assert given.state == "ended"


@pytest.mark.django_db(transaction=True)
def test_two_who_decide_at_once_decide_once(transactional_db: None) -> None:
    ana, chiefs = make_person("ana"), [make_person(name) for name in ("c1", "c2")]
    emergency = ask(ana)
    came = race(
        [
            lambda: decide_emergency(by=chiefs[0], emergency=emergency, approve=True),
            lambda: decide_emergency(by=chiefs[1], emergency=emergency, approve=False),
        ]
    )
    assert came == [EmergencyAccess, RefusedError]
    assert LedgerEntry.objects.filter(action__in=["emergency.approve", "emergency.refuse"]).count() == 1


# --- reviews -----------------------------------------------------------------------------------------------


def test_a_review_takes_what_is_below_and_not_the_reviewers_own() -> None:
    pricing, tax = unit("pricing"), unit("tax")
    Unit.objects.filter(pk=tax.pk).update(parent=pricing)
    head, eva, now = (
        make_person("head", role="subsidiary-head", unit=pricing),
        make_person("eva", role=""),
        timezone.now(),
    )
    mine = make_binding(eva, "viewer", pricing, granted_by=head)
    below = make_binding(eva, "viewer", tax)
    make_binding(eva, "supervisor", tax, starts_at=now - 2 * HOUR, expires_at=now - HOUR)
    make_binding(eva, "supervisor", pricing, starts_at=now + HOUR)
    make_binding(eva, "auditor")
    with scope.opened(open_for(head)):
        review = open_review(by=head, unit=pricing, reviewer=head, due_at=now + HOUR)
    assert [item.binding_id for item in review.items.all()] == [below.pk]
    whole = open_review(
        by=make_person("aud", role="auditor"), reviewer=User.objects.get(username="aud"), due_at=now + HOUR
    )
    assert {mine.pk, below.pk} <= set(whole.items.values_list("binding_id", flat=True))


def test_only_the_reviewer_decides_and_once() -> None:
    aud, eva, now = make_person("aud", role="auditor"), make_person("eva", role="viewer"), timezone.now()
    review = open_review(by=aud, reviewer=aud, due_at=now + HOUR)
    with pytest.raises(RefusedError, match="already"):
        open_review(by=aud, reviewer=aud, due_at=now + HOUR)
    item = review.items.get(binding__user=eva)
    with pytest.raises(NotHeldError):
        decide_item(by=make_person("other", role="auditor"), item=item, verdict="keep")
    for verdict, note in (("revoke", " "), ("perhaps", "x")):
        with pytest.raises(RefusedError):
            decide_item(by=aud, item=item, verdict=verdict, note=note)
    with pytest.raises(RefusedError, match="undecided"):
        close_review(by=aud, review=review)
    decide_item(by=aud, item=item, verdict="revoke", note="left")
    assert not eva.bindings.in_force().exists()
    with pytest.raises(RefusedError, match="already"):
        decide_item(by=aud, item=item, verdict="keep")
    for rest in review.items.filter(verdict=""):
        decide_item(by=aud, item=rest, verdict="keep")
    assert close_review(by=aud, review=review).closed_at is not None
    late = AccessReview.objects.create(reviewer=aud, due_at=now - HOUR)
    assert late.overdue


def test_whoever_lost_the_right_decides_no_more() -> None:
    aud, eva = make_person("aud", role="auditor"), make_person("eva", role="viewer")
    review = open_review(by=aud, reviewer=aud, due_at=timezone.now() + HOUR)
    aud.bindings.update(revoked_at=timezone.now())
    with pytest.raises(NotHeldError):
        decide_item(by=aud, item=review.items.get(binding__user=eva), verdict="keep")


# --- accounts and tokens -----------------------------------------------------------------------------------


def test_services_have_an_owner_tokens_and_no_password() -> None:
    root, eva = make_person("root", role="administrator"), make_person("eva", role="viewer")
    account = create_service_account(by=root, username="erp", owner=eva)
    agent = create_agent_account(by=root, username="scribe", owner=eva)
    assert (account.kind, agent.kind, account.has_usable_password()) == ("service", "agent", False)
    for owner in (account, make_person("gone", role="", is_active=False), make_person("un", cleared=False)):
        with pytest.raises(RefusedError, match="must answer"):
            create_service_account(by=root, username="other", owner=owner)
    with pytest.raises(RefusedError, match="in use"):
        create_service_account(by=root, username="erp", owner=eva)
    with pytest.raises(NotHeldError):
        create_service_account(by=eva, username="other", owner=eva)
    with pytest.raises(RefusedError, match="Only people"):
        update_person(user_id=account.pk, password=PASSWORD, actor="root")
    make_binding(account, "integration", unit("tax"))
    end = timezone.now() + HOUR
    issue_token(user=account, name="t", token="t", expires_at=end, actor="root", by=root)
    deactivate_account(by=root, account=account)
    assert not account.tokens.exists()
    with pytest.raises(RefusedError, match="inactive already"):
        deactivate_account(by=root, account=account)
    with pytest.raises(RefusedError, match="is a person"):
        deactivate_account(by=root, account=eva)


def test_tokens_open_no_more_than_their_account_and_not_for_ever() -> None:
    root, eva, now = make_person("root", role="administrator"), make_person("eva", role="viewer"), timezone.now()
    account = create_service_account(by=root, username="erp", owner=eva)
    make_binding(account, "integration", unit("tax"))
    cases: list[tuple[str, dict[str, object]]] = [
        ("does not hold", {"permissions": ["ledger.view"]}),
        ("does not hold", {"permissions": ["units.view"], "unit": unit("pricing")}),
        ("does not hold", {"permissions": ["no.such"]}),
        ("holds nothing", {"unit": unit("pricing")}),
        ("365 days", {"expires_at": None}),
        ("365 days", {"expires_at": now + timedelta(days=366)}),
    ]
    for words, wrong in cases:
        asked: dict[str, object] = {"name": "t", "token": "t", "expires_at": now + HOUR, "actor": "root", **wrong}
        with pytest.raises(RefusedError, match=words):
            issue_token(user=account, **asked)  # type: ignore[arg-type]
    head = make_person("head", role="subsidiary-head", unit=unit("pricing"))
    with pytest.raises(NotHeldError, match=r"units\.view"):
        issue_token(user=account, name="t", token="t", expires_at=now + HOUR, actor="head", by=head)
    token = issue_token(
        user=account, name="t", token="t", expires_at=now + HOUR, actor="root", permissions=["units.view"], by=root
    )
    assert token.permissions == ["units.view"]


# --- who can do what ---------------------------------------------------------------------------------------


def test_each_reason_is_told() -> None:
    eva = make_person("eva", role="viewer")
    make_binding(eva, "supervisor", unit("tax"))
    found = [(reason.code, reason.namespace) for reason in explaining.explain(eva)]
    assert found[:2] == [("units.view", "holding"), ("units.view", "subs-tax")]
    assert ("approvals.decide", "subs-tax") in found
    assert explaining.explain(make_person("un", cleared=False)) == []


def test_who_can_counts_units_above_and_the_whole_holding() -> None:
    pricing, tax = unit("pricing"), unit("tax")
    Unit.objects.filter(pk=tax.pk).update(parent=pricing)
    for name, at in (("a", None), ("b", pricing), ("c", tax)):
        make_person(name, role="viewer", unit=at)
    found = explaining.who_can(permission="units.view", unit=tax)
    assert {binding.user.username for binding in found} == {"a", "b", "c"}
    assert not explaining.who_can(permission="units.view", unit=pricing).filter(user__username="c").exists()


def test_dormant_people_and_wide_bindings_are_found() -> None:
    root, old = make_person("root", role="administrator"), timezone.now() - timedelta(days=91)
    User.objects.filter(pk=root.pk).update(last_login=old)
    make_binding(make_person("eva", role=""), "administrator", expires_at=timezone.now() + HOUR)
    assert list(explaining.dormant(User.objects.all())) == [root]
    assert [binding.user for binding in explaining.over_wide(RoleBinding.objects.in_force())] == [root]
    assert AccessRole.objects.filter(built_in=True).count() == 7
