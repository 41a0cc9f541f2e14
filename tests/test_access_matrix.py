"""Every principal at every door: who gets in, who is refused, and that nobody reads what is not theirs."""

import logging
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from http.cookies import SimpleCookie
from itertools import product
from typing import Any, Final

import pytest
from django.core.exceptions import FullResultSet
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.utils import timezone

from holding import scope
from iam.access.authentication import identify
from iam.access.models import User
from iam.access.permissions import PERMISSIONS
from iam.authority import services
from subsidiaries.replacement.models import DivisionState, SeatState
from tests.access_expected import REFUSED, STRANGE, allowed
from tests.access_rules import CLEARED, ROUTES
from tests.doors import NOBODY, SAFE, UNSAFE, Door, document, doors, routes
from tests.planted import Planted, make_approval, plant
from tests.principals import OTHER, OWN, PARENT, UNITS, Principal, make_principals, named

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_clean"), pytest.mark.long]

SHARE: Final = 2000  # attempts of `make test`
FULL: Final = 100_000  # of `make test-full`; all there are, 230,000, take half an hour
KINDS: Final = ("page", "api", "admin")
FRAGMENT: Final = {"HX-Request": "true"}
SIGN_IN: Final = ("/sign-in/", "/admin/login/")
WAY_OUT: Final = "/admin/"  # where the administration leads whom it has nothing to sign out of
WIDE: Final = {code for code, permission in PERMISSIONS.items() if permission.wide}


DOCUMENTS: Final = {
    "api-schema": "/api/schema/",
    "asyncapi": "/api/asyncapi.json",
    "message-schema": "/api/schemas/kpi.sample.json",
}
"""What is published about the API and the protocol, to whoever has the clearance."""

MARKLESS: Final = {
    "field": "bytes without a word: see the test of the field below",
    "blueprints": "recipes of roles, which are no unit's: of units it counts agents, and counts bear no mark",
}
"""Pages that tell of units without a mark of theirs, so that no mark can show a leak; each with its reason."""

Case = tuple[Principal, Door, str, bool]
"""Who, where, by which method, and whether as a part of a page."""


class Matrix:
    """The holding with its marks, everybody, and every door."""

    def __init__(self) -> None:
        self.planted: Planted = plant()
        self.principals = make_principals()
        document(named(self.principals, "executive").client())
        self.doors = doors(self.planted)
        self.attempts = 0
        self.wrong: list[str] = []
        self.answers: Counter[tuple[str, int]] = Counter()
        self._clients: dict[str, Client] = {}

    def unseen(self, principal: Principal) -> dict[str, list[str]]:
        """Return the units for which a principal lacks each permission by which something is seen."""
        kinds = self.planted[OWN].secrets
        return {code: [slug for slug in UNITS if not principal.reaches(slug, code)] for code in kinds}

    def ask(
        self, principal: Principal, door: Door, method: str = "GET", headers: dict[str, str] | None = None
    ) -> HttpResponse:
        """Ask as the principal; what a write did is taken back, cookies too."""
        self.attempts += 1
        client = self._clients.get(principal.name) or self._clients.setdefault(principal.name, principal.client())
        cookies = SimpleCookie(client.cookies)
        try:
            if method in SAFE:
                return whole(client.generic(method, door.path, headers=headers))
            with transaction.atomic():
                body = "{}" if door.kind == "api" else ""
                response = client.generic(method, door.path, body, "application/json", headers=headers)
                transaction.set_rollback(True)
            return response  # type: ignore[return-value]
        finally:
            client.cookies = cookies

    def judge(self, principal: Principal, door: Door, method: str, response: HttpResponse, fragment: bool) -> None:
        """Note what is wrong with an answer."""
        case = f"{principal.name}: {method} {door.path}{' (part)' if fragment else ''} -> {response.status_code}"
        self.answers[door.kind, response.status_code] += 1
        expected = allowed(principal, door, method, fragment=fragment)
        if response.status_code not in expected:
            self.wrong.append(f"{case}, not one of {sorted(expected)}")
        target = response.headers.get("Location", "")
        refused = expected in (STRANGE["page"], STRANGE["admin"], REFUSED["admin"])
        if response.status_code == 302 and refused and not target.startswith(SIGN_IN) and target != WAY_OUT:
            self.wrong.append(f"{case}, leads to {target}")
        for mark in self.leaks(principal, door, response, method):
            self.wrong.append(f"{case} tells {mark!r}")

    def leaks(self, principal: Principal, door: Door, response: HttpResponse, method: str = "GET") -> list[str]:
        """Return the marks of units that the principal has no view of, in body and headers."""
        rule = door.asks(method)
        if rule in WIDE - {"admin.use"} and principal.holds(rule):
            return []  # about the whole holding, and held for it
        if door.name in DOCUMENTS:
            return []  # the same for everybody, see below
        told = b"\n".join([response.content, *(f"{k}: {v}".encode() for k, v in response.headers.items())])
        return self.planted.leaks(told, unseen=self.unseen(principal), asked=door.path)

    def cases(self) -> list[Case]:
        """Return every attempt. Queries are tried by reading only: what a method may is the address's matter."""
        reads = [(*case, "GET", False) for case in product(self.principals, self.doors)]
        addresses = [door for door in self.doors if not door.queried]
        writes = [(*case, False) for case in product(self.principals, addresses, ("HEAD", *UNSAFE))]
        pages = [door for door in self.doors if door.kind == "page"]
        return [*reads, *writes, *((*case, "GET", True) for case in product(self.principals, pages))]

    def many(self, cases: Sequence[Case], source: random.Random, size: int) -> list[Case]:
        """Return every reading of an address, and of the rest as many as are wanted in all."""
        whole = [case for case in cases if case[2] == "GET" and not case[1].queried]
        rest = [case for case in cases if case[2] != "GET" or case[1].queried]
        return [*whole, *source.sample(rest, min(len(rest), max(0, size - len(whole))))]

    def of_each(self, found: Sequence[Door], source: random.Random, size: int) -> list[Door]:
        """Return so many of the doors, at least one of each name."""
        shuffled = source.sample(found, len(found))
        first = {door.name: door for door in shuffled}
        rest = [door for door in shuffled if first[door.name] is not door]
        return [*first.values(), *rest[: max(0, size - len(first))]]

    def share(self, cases: Sequence[Case], source: random.Random, size: int) -> list[Case]:
        """Return a share of the cases, as many of each kind of door."""
        of_kinds = [[case for case in cases if case[1].kind == kind] for kind in KINDS]
        return [case for part in of_kinds for case in source.sample(part, min(size // len(KINDS), len(part)))]

    def run(self, cases: Sequence[Case]) -> None:
        """Try the cases; fails with what was wrong, the first thirty."""
        for principal, door, method, fragment in cases:
            response = self.ask(principal, door, method, FRAGMENT if fragment else None)
            self.judge(principal, door, method, response, fragment)
        assert not self.wrong, "\n".join([f"{len(self.wrong)} of {self.attempts} attempts:", *self.wrong[:30]])


def whole(response: Any) -> HttpResponse:
    """Return an answer with its content, also one that was streamed."""
    if not response.streaming:
        return response  # type: ignore[no-any-return]
    content = b"".join(response.streaming_content)
    return HttpResponse(content, status=response.status_code, headers=response.headers)


@pytest.fixture
def matrix() -> Iterator[Matrix]:
    logging.disable(logging.ERROR)  # thousands of refusals, each with its trace
    yield Matrix()
    logging.disable(logging.NOTSET)


@pytest.fixture
def source(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.config.getoption("randomly_seed", 1))


def report(matrix: Matrix, capsys: pytest.CaptureFixture[str]) -> None:
    """Print how many attempts were made."""
    with capsys.disabled():
        kinds = Counter(dict.fromkeys(KINDS, 0))
        for (kind, _status), count in matrix.answers.items():
            kinds[kind] += count
        parts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        print(f"\naccess matrix: {matrix.attempts:,} attempts ({parts}), {len(matrix.doors)} doors", end=" ")  # noqa: T201


# --- who gets in -------------------------------------------------------------------------------------------


def test_a_share_of_all_attempts_ends_as_it_must(
    matrix: Matrix, source: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix.run(matrix.share(matrix.cases(), source, SHARE))
    report(matrix, capsys)


@pytest.mark.full
def test_every_reading_and_many_writings_end_as_they_must(
    matrix: Matrix, source: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix.run(matrix.many(matrix.cases(), source, FULL))
    report(matrix, capsys)
    assert matrix.attempts >= 50_000


# --- what is read ------------------------------------------------------------------------------------------


def test_the_marks_are_read_by_those_who_may(matrix: Matrix) -> None:
    """Else a leak would not be found either."""
    administrator = named(matrix.principals, "administrator")
    told = b"".join(matrix.ask(administrator, door).content for door in matrix.doors if door.kind != "admin")
    for slug in UNITS:
        unread = [mark for mark in matrix.planted[slug].marks if mark.encode() not in told]
        # The seats of the parent company have names instead of numbers, and nobody has replaced them.
        only_there = ("zqseat-", "zqcause-") if slug != PARENT else ("-71", "zqcause-", "row-")
        assert [mark for mark in unread if not mark.startswith(only_there)] == [], slug


LIMITED: Final = ("head", "clerk", "viewer-of-two", "service", "agent", "token-of-a-unit", "unbound")


def test_the_database_alone_lets_nothing_out(
    matrix: Matrix, source: random.Random, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the managers' condition taken away, row-level security stands alone."""

    def everything(*_arguments: object) -> Any:
        raise FullResultSet

    monkeypatch.setattr(scope.InView, "as_sql", everything)
    limited = [named(matrix.principals, name) for name in LIMITED]
    cases = [(*case, "GET", False) for case in product(limited, matrix.doors)]
    matrix.run(matrix.share(cases, source, SHARE // 2))
    report(matrix, capsys)


def test_with_both_floors_gone_the_matrix_finds_leaks(matrix: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(*_arguments: object) -> Any:
        raise FullResultSet

    def opened(request: HttpRequest) -> tuple[User | None, scope.Scope]:
        found = identify(request)
        scope.show(scope.EVERYTHING)
        return found

    monkeypatch.setattr(scope.InView, "as_sql", everything)
    monkeypatch.setattr("iam.access.middleware.identify", opened)
    head, foreign = named(matrix.principals, "head"), matrix.planted[OTHER].marks
    found: dict[str, set[str]] = {}
    for door in matrix.doors:
        if door.kind != "admin" and door.rule == "units.view":
            found.setdefault(door.name, set()).update(matrix.leaks(head, door, matrix.ask(head, door)))
    sealed = [name for name, marks in found.items() if name not in MARKLESS and not marks & {*foreign}]
    assert sealed == []


def test_what_is_not_in_view_is_answered_like_what_does_not_exist(matrix: Matrix) -> None:
    head = named(matrix.principals, "head")
    compared = 0
    for door in matrix.doors:
        if door.kind == "admin" or not door.asks("GET") or door.of not in UNITS or head.sees(door.of):
            continue
        if (rule := door.asks("GET")) in PERMISSIONS and not head.holds(rule):
            continue  # refused whatever it names
        word, absent = absent_beside(door)
        for headers in ({}, FRAGMENT):
            there = matrix.ask(head, door, headers=headers)
            nowhere = matrix.ask(
                head, replace(door, path=door.path.replace(f"/{word}/", f"/{absent}/")), headers=headers
            )
            assert there.status_code == nowhere.status_code == 404, door.path
            assert plain(there, word, absent) == plain(nowhere, word, absent), door.path
            compared += 1
    assert compared > 50


def absent_beside(door: Door) -> tuple[str, str]:
    """Return the word of an address that names what is not in view, and one of its kind that names nothing."""
    words = door.path.strip("/").split("/")
    named_so = [word for word in words if word == door.of or word.isdigit() or word.startswith("zq")]
    word = named_so[0] if named_so else words[-1]
    return word, str(NOBODY) if word.isdigit() else "nowhere"


def plain(response: HttpResponse, *words: str) -> str:
    """Return an answer without words of the questions, and without what is new each time."""
    text = re.sub(rf"\b({'|'.join(map(re.escape, words))})\b", "·", response.content.decode())
    return re.sub(r'(csrfmiddlewaretoken" value=|X-CSRFToken|csrf-token" content=)"?[^">]+', "", text)


@pytest.mark.parametrize("size", [SHARE // 10, pytest.param(FULL, marks=pytest.mark.full)], ids=["share", "full"])
def test_a_tag_that_somebody_else_got_confirms_nothing(matrix: Matrix, source: random.Random, size: int) -> None:
    """No 304 tells that the content of somebody who sees more would be the same."""
    executive, head = named(matrix.principals, "executive"), named(matrix.principals, "head")
    tried = 0
    pages = [door for door in matrix.doors if door.kind == "page"]
    for door in matrix.of_each(pages, source, size):
        if (tag := matrix.ask(executive, door, headers=FRAGMENT).headers.get("ETag")) is None:
            continue
        answer = matrix.ask(head, door, headers={**FRAGMENT, "If-None-Match": tag})
        own = matrix.ask(head, door, headers=FRAGMENT)
        assert (answer.status_code == 304) == (own.headers.get("ETag") == tag), door.path
        assert answer.status_code != 304 or door.of not in UNITS or head.sees(door.of), door.path
        tried += 1
    assert tried > 30


def test_a_cursor_of_somebody_else_opens_no_row(matrix: Matrix) -> None:
    executive = named(matrix.principals, "executive").client()
    lists = dict.fromkeys(("units", "seats", "agents", "replacements", "kpis"), "units.view")
    lists |= {"approvals": "authority.view", "iam/bindings": "people.view", "iam/people": "people.view"}
    for name, rule in lists.items():
        address = f"/api/v1/{name}/?limit=1"
        for _page in range(6):
            given = executive.get(address).json()["next"]
            if not given:
                break
            address = given
            for principal in (named(matrix.principals, one) for one in ("head", "agent", "clerk", "unbound")):
                door = Door(f"{name}-cursor", "api", rule, address.removeprefix("http://testserver"))
                response = matrix.ask(principal, door)
                assert response.status_code == (200 if principal.holds(rule) else 403), address
                assert matrix.leaks(principal, door, response) == [], (principal.name, address)


def test_the_field_has_the_bytes_of_units_in_view_only(matrix: Matrix) -> None:
    def field(name: str) -> bytes:
        return bytes(named(matrix.principals, name).client().get("/org/field.bin").content)

    DivisionState.objects.update(seen_at=timezone.now() + timedelta(hours=1))  # silence would hide all states
    assert len(field("executive")) == 3 * 35 + 50
    parts = {name: field(name) for name in ("head", "head-of-another", "viewer-of-two", "narrowed-by-time")}
    assert {name: len(raw) for name, raw in parts.items()} == {
        "head": 35, "head-of-another": 35, "viewer-of-two": 70, "narrowed-by-time": 35,
    }  # fmt: skip
    place = field("executive").find(parts["head"])
    SeatState.objects.filter(unit__slug=OTHER).update(state="failed")
    assert field("head") == parts["head"]
    assert field("head-of-another") != parts["head-of-another"]
    assert field("executive")[place:].startswith(parts["head"])


def test_the_palette_finds_only_what_is_in_view(matrix: Matrix) -> None:
    for name, units in (("head", {OWN}), ("viewer-of-two", {OWN, "cloud"}), ("executive", set(UNITS))):
        client = named(matrix.principals, name).client()
        for word in ("zqname", "op-7", "-", "71", *UNITS):
            for hit in client.get("/palette/", {"q": word}).json()["hits"]:
                parts = hit["url"].split("/")
                assert parts[1] not in ("s", "a") or parts[2] in units, (name, word, hit)
        assert client.get("/palette/", {"q": "zqname"}).json()["hits"] != []


def test_what_concerns_a_person_is_seen_by_them_whatever_the_unit(matrix: Matrix) -> None:
    """What one asked for, or may decide: of units out of view too, to nobody beside them."""
    foreign = matrix.planted[OTHER]
    head, other = named(matrix.principals, "head"), named(matrix.principals, "supervisor")
    assert head.user
    asked = make_approval(foreign, head.user, key="asked-by-the-head")
    waiting = foreign.approvals[0]

    def statuses(principal: Principal, pk: int) -> set[int]:
        doors = (Door("x", "page", "x", f"/approvals/{pk}/"), Door("x", "api", "x", f"/api/v1/approvals/{pk}/"))
        return {matrix.ask(principal, door).status_code for door in doors}

    assert statuses(head, asked.pk) == {200}
    assert statuses(other, asked.pk) == statuses(head, waiting.pk) == {404}
    services.appoint_to_office(office="subsidiary-director", person=head.user, unit=foreign.unit, actor="test")
    assert statuses(head, waiting.pk) == {200}
    assert statuses(other, waiting.pk) == {404}


@pytest.mark.parametrize(("name", "path"), DOCUMENTS.items())
def test_a_document_is_the_same_for_everybody(matrix: Matrix, name: str, path: str) -> None:
    told = {
        matrix.ask(principal, Door(name, "api", CLEARED, path)).content
        for principal in matrix.principals
        if principal.standing("api") == "cleared"
    }
    assert len(told) == 1


# --- the inventories are the same --------------------------------------------------------------------------


def test_the_openapi_document_names_every_route_of_the_api(matrix: Matrix) -> None:
    documented = {re.sub(r"\{[^}]*\}", "*", path) for path in document()["paths"]}
    mapped = {
        re.sub(r"\(\?P<[^)]*\)|<[^>]*>", "*", "/" + route.path.replace("^", "").replace("$", "")): route.name
        for route in routes()
        if route.path.startswith("api/v1/")
    }
    assert documented == set(mapped)
    for path, operations in document()["paths"].items():
        rule = ROUTES[mapped[re.sub(r"\{[^}]*\}", "*", path)]]
        methods = {"get"} if isinstance(rule, str) else {method.lower() for method in rule}
        assert set(operations) == methods, f"{path}: say in ROUTES what its operations ask for"
