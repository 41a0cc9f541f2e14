"""Granting and revoking: nobody hands on what they do not hold, and somebody stays who can administer."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from audit.models import LedgerEntry
from holding import scope
from holding.models import Unit
from holding.tests.factories import make_holding
from iam.access.bindings import grant_role, plan_grant, revoke_binding
from iam.access.grants import open_for
from iam.access.models import AccessRole, RoleBinding, User
from iam.access.rights import NotHeldError, RefusedError, rights_of
from iam.access.roles import change_role, define_role, map_group, unmap_group
from iam.access.services import LastAdministratorError
from iam.access.tests.factories import make_binding, make_person

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def units(request: pytest.FixtureRequest) -> None:
    if "transactional_db" not in request.fixturenames:
        make_holding(subsidiaries=("pricing", "tax"))


def unit(slug: str) -> Unit:
    return Unit.objects.get(slug=slug)


def role(slug: str) -> AccessRole:
    return AccessRole.objects.get(slug=slug)


def held(user: User) -> scope.Scope:
    return rights_of(user).account


# --- granting ----------------------------------------------------------------------------------------------


def test_an_administrator_grants_for_a_unit_and_the_ledger_knows() -> None:
    root, eva = make_person("root", role="administrator"), make_person("eva", role="")
    binding = grant_role(by=root, user=eva, role=role("subsidiary-head"), unit=unit("pricing"), reason=" leads it ")
    assert (binding.namespace, binding.granted_by, binding.reason) == ("subs-pricing", root, "leads it")
    assert held(eva).units("bindings.grant") == frozenset([unit("pricing").pk])
    entry = LedgerEntry.objects.get(action="binding.grant")
    assert (entry.actor, entry.object) == ("root", f"person/{eva.pk}")
    assert b'"where":"subs-pricing"' in bytes(entry.body)


def test_the_head_of_a_unit_grants_there_what_they_hold_and_nothing_else() -> None:
    head, eva = make_person("head", role="subsidiary-head", unit=unit("pricing")), make_person("eva", role="")
    grant_role(by=head, user=eva, role=role("viewer"), unit=unit("pricing"), reason="needs to look")
    with pytest.raises(NotHeldError, match=r"bindings\.grant"):
        grant_role(by=head, user=eva, role=role("viewer"), unit=unit("tax"), reason="x")
    for whole in (None, unit("corporate")):
        with pytest.raises(NotHeldError):
            grant_role(by=head, user=eva, role=role("viewer"), unit=whole, reason="x")
    with pytest.raises(NotHeldError, match=r"break-glass\.approve, ledger\.view"):
        grant_role(by=head, user=eva, role=role("executive"), unit=unit("pricing"), reason="x")
    assert list(eva.bindings.values_list("role__slug", flat=True)) == ["viewer"]


def test_the_corporate_unit_is_the_whole_holding() -> None:
    root, eva = make_person("root", role="administrator"), make_person("eva", role="")
    binding = grant_role(by=root, user=eva, role=role("viewer"), unit=unit("corporate"), reason="all")
    assert (binding.unit_id, binding.namespace) == (None, "holding")
    assert held(eva).units() is None


def test_bindings_reach_what_is_below_their_unit() -> None:
    pricing, tax = unit("pricing"), unit("tax")
    Unit.objects.filter(pk=tax.pk).update(parent=pricing)
    head, eva = make_person("head", role="subsidiary-head", unit=pricing), make_person("eva", role="")
    grant_role(by=head, user=eva, role=role("viewer"), unit=tax, reason="below mine")
    lower = make_person("lower", role="subsidiary-head", unit=tax)
    with pytest.raises(NotHeldError):
        grant_role(by=lower, user=eva, role=role("viewer"), unit=pricing, reason="above mine")


def test_nobody_grants_to_themselves_not_even_a_superuser() -> None:
    root = make_person("root", role="", is_superuser=True)
    with pytest.raises(NotHeldError, match="themselves"):
        grant_role(by=root, user=root, role=role("viewer"), reason="x")


def test_without_clearance_nothing_is_granted() -> None:
    root, eva = make_person("root", role="administrator", cleared=False), make_person("eva", role="")
    with pytest.raises(NotHeldError):
        grant_role(by=root, user=eva, role=role("viewer"), reason="x")


def test_what_a_token_does_not_open_is_not_granted_by_it() -> None:
    root, eva = make_person("root", role="administrator"), make_person("eva", role="")
    with scope.opened(scope.Scope({"bindings.grant": None})), pytest.raises(NotHeldError, match=r"units\.view"):
        grant_role(by=root, user=eva, role=role("viewer"), reason="x")


def test_terms_and_reasons_are_checked() -> None:
    root, eva, now = make_person("root", role="administrator"), make_person("eva", role=""), timezone.now()
    for wrong in (
        {"reason": "  "},
        {"reason": "x" * 201},
        {"reason": "x", "expires_at": now - timedelta(seconds=1)},
        {"reason": "x", "starts_at": now + timedelta(days=2), "expires_at": now + timedelta(days=1)},
    ):
        with pytest.raises(RefusedError):
            grant_role(by=root, user=eva, role=role("viewer"), **wrong)
    User.objects.filter(pk=eva.pk).update(is_active=False)
    with pytest.raises(RefusedError, match="inactive"):
        grant_role(by=root, user=eva, role=role("viewer"), reason="x")


def test_an_equal_binding_in_the_same_time_is_refused_and_a_later_one_is_not() -> None:
    root, eva, now = make_person("root", role="administrator"), make_person("eva", role=""), timezone.now()
    day = timedelta(days=1)
    grant_role(by=root, user=eva, role=role("viewer"), expires_at=now + day, reason="a day")
    for start, end in ((None, None), (None, now + day / 2), (now + day / 2, now + 2 * day)):
        with pytest.raises(RefusedError, match="already"):
            grant_role(by=root, user=eva, role=role("viewer"), starts_at=start, expires_at=end, reason="x")
    grant_role(by=root, user=eva, role=role("viewer"), unit=unit("tax"), reason="another place")
    later = grant_role(by=root, user=eva, role=role("viewer"), starts_at=now + 2 * day, reason="later")
    assert later not in eva.bindings.in_force()
    assert later in eva.bindings.in_force(now + 3 * day)


def test_bindings_count_in_their_time_only() -> None:
    now, hour = timezone.now(), timedelta(hours=1)
    eva = make_person("eva", role="")
    make_binding(eva, "viewer", unit("pricing"), starts_at=now + hour)
    make_binding(eva, "viewer", unit("tax"), starts_at=now - 2 * hour, expires_at=now - hour)
    assert held(eva) == scope.NOTHING
    assert not eva.bindings.in_force().exists()


def test_a_plan_says_what_is_new() -> None:
    root, eva = make_person("root", role="administrator"), make_person("eva", role="")
    make_binding(eva, "viewer")
    plan = plan_grant(by=root, user=eva, role=role("supervisor"), unit=unit("tax"), reason="x")
    assert plan.has == ("units.view",)
    assert plan.gains == (
        "approvals.decide", "approvals.request", "authority.view", "commands.pause", "escalations.decide",
        "people.view", "quarantine.view",
    )  # fmt: skip
    assert eva.bindings.count() == 1


# --- revoking ----------------------------------------------------------------------------------------------


def test_a_revoked_binding_gives_nothing_from_then_on() -> None:
    root, eva = make_person("root", role="administrator"), make_person("eva", role="")
    binding = make_binding(eva, "viewer")
    revoke_binding(by=root, binding=binding, reason="left")
    assert held(eva) == scope.NOTHING
    entry = LedgerEntry.objects.get(action="binding.revoke")
    assert entry.before != entry.after
    with pytest.raises(RefusedError, match="was revoked"):
        revoke_binding(by=root, binding=binding, reason="again")


def test_the_head_of_a_unit_revokes_only_there() -> None:
    head, eva = make_person("head", role="subsidiary-head", unit=unit("pricing")), make_person("eva", role="")
    there, elsewhere, whole = (make_binding(eva, "viewer", at) for at in (unit("pricing"), unit("tax"), None))
    revoke_binding(by=head, binding=there, reason="over")
    for other in (elsewhere, whole):
        with pytest.raises(NotHeldError):
            revoke_binding(by=head, binding=other, reason="x")


def test_in_a_request_a_unit_out_of_view_is_not_taken_for_one_in_view() -> None:
    head, eva = make_person("head", role="subsidiary-head", unit=unit("pricing")), make_person("eva", role="")
    elsewhere = make_binding(eva, "viewer", unit("tax"))
    with scope.opened(open_for(head)), pytest.raises(NotHeldError):
        revoke_binding(by=head, binding=RoleBinding.objects.get(pk=elsewhere.pk), reason="x")


def test_the_last_administrator_stays() -> None:
    root, ana = (
        make_person("root", role="", is_staff=True),
        make_person("ana", role="administrator", is_staff=True),
    )
    mine = make_binding(root, "administrator")
    revoke_binding(by=ana, binding=mine, reason="one is enough")
    with pytest.raises(LastAdministratorError):
        revoke_binding(by=ana, binding=ana.bindings.get(), reason="x")
    assert ana.bindings.get().revoked_at is None
    make_binding(root, "administrator", expires_at=timezone.now() + timedelta(days=1))
    with pytest.raises(LastAdministratorError):  # one that ends does not count
        revoke_binding(by=ana, binding=ana.bindings.get(), reason="x")


def race(acts: list[Callable[[], object]]) -> list[type]:
    """Run the acts at once, each on a connection of its own; return what each came to."""
    start, came = threading.Barrier(len(acts)), list[type]()

    def run(act: Callable[[], object]) -> None:
        try:
            start.wait(10)
            came.append(type(act()))
        except Exception as error:
            came.append(type(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[act]) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(came, key=lambda kind: kind.__name__)


@pytest.mark.django_db(transaction=True)
def test_of_two_administrators_who_revoke_each_other_one_stays(transactional_db: None) -> None:
    ana, bea = (make_person(name, role="administrator", is_staff=True) for name in ("ana", "bea"))
    mine, hers = ana.bindings.get(), bea.bindings.get()
    came = race(
        [
            lambda: revoke_binding(by=ana, binding=hers, reason="race"),
            lambda: revoke_binding(by=bea, binding=mine, reason="race"),
        ]
    )
    assert came[-1] is RoleBinding
    assert came[0] in {LastAdministratorError, NotHeldError}
    assert RoleBinding.objects.in_force().count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_who_revoke_the_same_at_once_do_it_once(transactional_db: None) -> None:
    root, eva = make_person("root", role="administrator"), make_person("eva", role="viewer")
    binding = eva.bindings.get()
    came = race([lambda: revoke_binding(by=root, binding=binding, reason="race") for _ in range(2)])
    assert came == [RefusedError, RoleBinding]
    assert LedgerEntry.objects.filter(action="binding.revoke").count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_equal_grants_at_once_are_one(transactional_db: None) -> None:
    root, eva = make_person("root", role="administrator"), make_person("eva", role="")
    end = timezone.now() + timedelta(days=1)
    viewer = role("viewer")
    came = race([lambda: grant_role(by=root, user=eva, role=viewer, expires_at=end, reason="r") for _ in range(2)])
    assert came == [RefusedError, RoleBinding]


# --- roles and groups --------------------------------------------------------------------------------------


def test_roles_are_defined_and_changed_within_what_one_holds() -> None:
    root = make_person("root", role="administrator")
    made = define_role(by=root, slug="clerk", name_es="Oficina", name_en="Clerk", permissions=["exports.create"])
    changed = change_role(by=root, role=made, name_es="Oficina", name_en="Clerk", permissions=["units.view"])
    assert changed.permissions == ["units.view"]
    assert list(LedgerEntry.objects.order_by("id").values_list("action", flat=True))[-2:] == [
        "role.define",
        "role.change",
    ]
    only = define_role(by=root, slug="roles", name_es="R", name_en="R", permissions=["roles.manage"])
    eva = make_person("eva", role="")
    make_binding(eva, only.slug)
    with pytest.raises(NotHeldError, match=r"exports\.create"):
        define_role(by=eva, slug="mine", name_es="M", name_en="M", permissions=["exports.create"])
    with pytest.raises(NotHeldError):
        change_role(by=eva, role=only, name_es="R", name_en="R", permissions=["roles.manage", "admin.use"])


def test_roles_that_make_no_sense_are_refused() -> None:
    root = make_person("root", role="administrator")
    for slug, codes in (("viewer", ["units.view"]), ("new", ["no.such"]), ("new", [])):
        with pytest.raises(RefusedError):
            define_role(by=root, slug=slug, name_es="N", name_en="N", permissions=codes)
    with pytest.raises(RefusedError, match="comes with the portal"):
        change_role(by=root, role=role("viewer"), name_es="N", name_en="N", permissions=["units.view"])
    with pytest.raises(NotHeldError):
        define_role(by=make_person("eva"), slug="new", name_es="N", name_en="N", permissions=["units.view"])


def test_groups_give_what_whoever_maps_them_could_grant() -> None:
    head = make_person("head", role="subsidiary-head", unit=unit("pricing"))
    mapping = map_group(by=head, group="pricing-readers", role=role("viewer"), unit=unit("pricing"))
    with pytest.raises(RefusedError, match="already"):
        map_group(by=head, group="pricing-readers", role=role("viewer"), unit=unit("pricing"))
    with pytest.raises(NotHeldError):
        map_group(by=head, group="everybody", role=role("viewer"))
    with pytest.raises(NotHeldError):
        unmap_group(by=make_person("eva", role="viewer"), mapping=mapping)
    unmap_group(by=head, mapping=mapping)
    assert LedgerEntry.objects.filter(action__startswith="group.").count() == 2
