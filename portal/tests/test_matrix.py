"""The next version of the matrix on pages: drafted by one person, adopted by another."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from audit.models import LedgerEntry
from holding import clock
from iam.access.tests.factories import make_binding
from iam.authority import services
from iam.authority.matrix import FILE
from iam.authority.models import MatrixVersion, Rule
from iam.authority.tests.factories import make_authority, who

pytestmark = pytest.mark.django_db
DRAFT = "/authority/matrix/draft/"
SignIn = Callable[[str], Client]


@pytest.fixture(autouse=True)
def authority(db: None, redis_url: str) -> None:
    make_authority()
    for name, role in {"rita": "administrator", "sara": "administrator", "omar": "auditor"}.items():
        make_binding(who(name), role)


@pytest.fixture
def sign_in() -> SignIn:
    def client(name: str) -> Client:
        made = Client(headers={"Accept-Language": "en"})
        made.force_login(who(name))
        return made

    return client


def text(response: Any) -> str:
    return str(response.content, "utf-8")


def in_force() -> str:
    return services.text_of(services.matrix_at(clock.now()))


def other() -> str:
    """Other rules: one limit is lower, one rule is gone, one is new."""
    rules = in_force()
    assert "subsidiary-ceo: 500000\n" in rules
    rules = rules.replace("subsidiary-ceo: 500000\n", "subsidiary-ceo: 400000\n", 1)
    rules = rules.replace("    group-cfo: 2000000\n", "", 1)
    head, sep, tail = rules.partition("- slug: model-release\n  rules:\n")
    return head + sep + "    subsidiary-ceo: 1.5\n" + tail


def seen(page: str) -> str:
    found = re.search(r'name="save" value="([^"]+)"', page)
    assert found, page
    return found[1]


def save(client: Client, rules: str, reason: str = "Lower limits") -> Any:
    shown = text(client.post(DRAFT, {"text": rules, "reason": reason}))
    return client.post(DRAFT, {"text": rules, "reason": reason, "save": seen(shown)})


def test_the_form_begins_with_the_rules_in_force(sign_in: SignIn) -> None:
    page = text(sign_in("rita").get(DRAFT))
    assert "subsidiary-ceo: 500000" in page
    assert "limit: 50000" in page
    same = sign_in("rita").post(DRAFT, {"text": in_force(), "reason": "x"})
    assert same.status_code == 422
    assert "says the same" in text(same)


def test_the_difference_is_shown_before_it_is_saved(sign_in: SignIn) -> None:
    rita = sign_in("rita")
    shown = rita.post(DRAFT, {"text": other(), "reason": "Lower limits"})
    assert shown.status_code == 200
    page = re.sub(r"\s+", " ", text(shown))
    assert "compared with v1" in page
    for row in (
        r"contract</th>.{0,200}Subsidiary CEO.{0,200}limit changed.{0,200}500,000 EUR.{0,100}400,000 EUR",
        r"contract</th>.{0,200}Group CFO.{0,200}removed.{0,200}2,000,000 EUR.{0,100}–",
        r"release</th>.{0,200}Subsidiary CEO.{0,200}added.{0,200}–.{0,100}level 1.5",
    ):
        assert re.search(row, page), row
    assert MatrixVersion.objects.count() == 1
    saved = rita.post(DRAFT, {"text": other(), "reason": "Lower limits", "save": seen(page)})
    assert saved.headers["Location"] == "/authority/?version=2"
    draft = MatrixVersion.objects.get(number=2)
    assert (draft.status, draft.author, draft.reason) == ("draft", "rita", "Lower limits")
    assert Rule.objects.filter(version=draft, limit="1.5").count() == 1
    entry = LedgerEntry.objects.filter(action="matrix.draft").latest("pk")
    assert (entry.actor, entry.object) == ("rita", "matrix/2")


def test_only_the_difference_that_was_shown_is_saved(sign_in: SignIn) -> None:
    rita = sign_in("rita")
    typed = other()
    first = seen(text(rita.post(DRAFT, {"text": typed, "reason": "x"})))
    changed = typed.replace("subsidiary-ceo: 400000", "subsidiary-ceo: 450000")
    refused = rita.post(DRAFT, {"text": changed, "reason": "x", "save": first})
    assert refused.status_code == 422
    assert "look at it again" in text(refused)
    assert "450,000 EUR" in text(refused)
    services.draft_matrix(author="sara", rules=services.propose_text(text=changed).rules)
    services.adopt_matrix(number=2, approver="omar")
    moved = rita.post(DRAFT, {"text": typed, "reason": "x", "save": first})
    assert moved.status_code == 422
    assert MatrixVersion.objects.count() == 2


def test_a_file_takes_the_place_of_the_text(sign_in: SignIn) -> None:
    rita = sign_in("rita")
    sent = SimpleUploadedFile("matrix.yaml", other().encode())
    shown = rita.post(DRAFT, {"text": "x", "file": sent, "reason": "x"})
    assert shown.status_code == 200
    assert "subsidiary-ceo: 400000" in text(shown)
    for content, sentence in ((b"\xff\xfe\x00", "not text in UTF-8"), (b" " * 100_001, "too large")):
        refused = rita.post(DRAFT, {"text": "kept", "file": SimpleUploadedFile("x", content), "reason": "x"})
        assert refused.status_code == 422
        assert sentence in text(refused)


MISTAKES: list[tuple[str, list[str]]] = [
    ("", ["Write the rules"]),
    ("[", ["no YAML", "line 1, column 2"]),
    ("- a", ["no mapping"]),
    ("matters: x", ["matters: a list is needed"]),
    ("matters: [{slug: capex, rules: {board: 1, board: 2}}]", ["“board” was said before"]),
    ("a: &a [1]\nb: *a", ["aliases are not taken"]),
    ("matters: []", ["without rules"]),
    ("matters: [1, {slug: zq}]", ["matters[0]: a mapping with a slug", "matters[1].slug: there is no “zq”"]),
    ("offices: [{slug: board, rank: 9}]\nmatters: []", ["offices[0].rank: it is 6"]),
    ("offices: [{slug: board, what: 9}]\nmatters: []", ["offices[0].what: there is no such field"]),
    ("rules: []\nmatters: []", ["rules: there is no such section"]),
    ("matters: [{slug: capex}, {slug: capex}]", ["matters[1].slug: capex was named before"]),
    ("matters: [{slug: capex, rules: 7}]", ["matters[0].rules: a mapping of offices"]),
    ("matters: [{slug: capex, measure: count}]", ["matters[0].measure: it is amount"]),
    ("matters: [{slug: merger, rules: {group-cfo: 1}}]", ["reserved to the board"]),
    ("[" * 5000, ["no YAML"]),
    ("matters: 2001-99-99", ["no YAML"]),
]
# The rules of `capex`, and what is wrong with them.
MISTAKES += [
    (f"matters: [{{slug: capex, rules: {{{rules}}}}}]", mistakes)
    for rules, mistakes in [
        ("board: maybe", ["matters[0].rules.board: &#x27;maybe&#x27; is no limit"]),
        ("board: yes", ["matters[0].rules.board: True is no limit"]),
        ("group-cfo: {limit: 1, required: x}", ["matters[0].rules.group-cfo.required: a whole number"]),
        ("board: {limit: 1, required: 2}", ["matters[0].rules.board: there is no field required"]),
        ("group-cfo: {limit: 1, holders: 2}", ["there is no field holders"]),
        ("group-cfo: {required: 2}", ["is no limit"]),
        ("zqoffice: 1", ["zqoffice: there is no such matter or office"]),
        ("group-ceo: 1, group-cfo: 5", ["capex: group-ceo: its limit is under"]),
        ("group-cfo: -1", ["a number from 0"]),
        ("group-cfo: .nan, board: .inf", ["group-cfo: a limit", "board: a limit"]),
        ("group-cfo: 1e30", ["with four decimals at most"]),
        ("group-cfo: 0.00001", ["with four decimals at most"]),
        ("group-cfo: {limit: 1, required: 99999}", ["by a number of holders"]),
        ("group-cfo: {limit: 1, required: 0}", ["by a number of holders"]),
    ]
]


@pytest.mark.parametrize(("rules", "mistakes"), MISTAKES)
def test_every_mistake_is_named_by_its_place_and_what_was_typed_is_kept(
    sign_in: SignIn, rules: str, mistakes: list[str]
) -> None:
    response = sign_in("rita").post(DRAFT, {"text": rules, "reason": "My reason"})
    assert response.status_code == 422
    page = text(response)
    for mistake in mistakes:
        assert mistake in page, page
    assert 'value="My reason"' in page
    assert rules[:20].replace("'", "&#x27;").replace("&a", "&amp;a") in page
    assert MatrixVersion.objects.count() == 1


def test_a_page_shows_only_so_many_mistakes(sign_in: SignIn) -> None:
    rules = "matters: [" + ", ".join("1" for _ in range(70)) + "]"
    page = text(sign_in("rita").post(DRAFT, {"text": rules, "reason": "x"}))
    assert page.count("a mapping with a slug is needed") == 50
    assert "and 20 more" in page


def test_the_file_that_is_loaded_can_be_proposed_as_it_is(sign_in: SignIn) -> None:
    source = FILE.read_text(encoding="utf-8")
    refused = sign_in("rita").post(DRAFT, {"text": source, "reason": "x"})
    assert "says the same" in text(refused)


# --- adoption ----------------------------------------------------------------------------------------------


def test_somebody_else_adopts(sign_in: SignIn) -> None:
    save(sign_in("rita"), other())
    path = "/authority/matrix/2/adopt/"
    own = text(sign_in("rita").get(path))
    assert "You wrote it, so somebody else adopts it." in own
    assert ">Adopt</button>" not in own
    refused = sign_in("rita").post(path, {})
    assert refused.status_code == 422
    assert "somebody other than its author" in text(refused)
    assert MatrixVersion.objects.get(number=2).status == "draft"
    sara = sign_in("sara")
    page = text(sara.get(path))
    assert "What it would change" in page
    assert "400,000 EUR" in page
    assert "Adopt v2" in text(sara.get("/authority/"))
    assert sara.post(path, {}).headers["Location"] == "/authority/?version=2"
    done = MatrixVersion.objects.get(number=2)
    assert (done.status, done.approver) == ("adopted", "sara")
    assert services.matrix_at(clock.now()) == done
    assert LedgerEntry.objects.filter(action="matrix.adopt", actor="sara", object="matrix/2").exists()
    again = sara.post(path, {})
    assert again.status_code == 422
    assert "was adopted already" in text(again)
    assert "What it changed" in text(sara.get(path))
    assert "400,000 EUR" in text(sara.get(path))


def test_it_comes_into_force_on_a_later_day(sign_in: SignIn) -> None:
    save(sign_in("rita"), other())
    sara, path, today = sign_in("sara"), "/authority/matrix/2/adopt/", clock.now().date()
    past = sara.post(path, {"day": (today - timedelta(days=1)).isoformat()})
    assert past.status_code == 422
    assert "in the past" in text(past)
    wrong = sara.post(path, {"day": "soon"})
    assert wrong.status_code == 422
    assert 'value="soon"' in text(wrong)
    assert sara.post(path, {"day": (today + timedelta(days=3)).isoformat()}).status_code == 302
    done = MatrixVersion.objects.get(number=2)
    assert done.valid_from is not None
    assert done.valid_from.date() == today + timedelta(days=3)
    current = services.matrix_at(clock.now())
    assert current is not None
    assert current.number == 1


def test_today_is_now(sign_in: SignIn) -> None:
    save(sign_in("rita"), other())
    today = clock.now().date().isoformat()
    assert sign_in("sara").post("/authority/matrix/2/adopt/", {"day": today}).status_code == 302
    current = services.matrix_at(clock.now())
    assert current is not None
    assert current.number == 2


def test_only_who_manages_authority_drafts_and_adopts(sign_in: SignIn) -> None:
    save(sign_in("rita"), other())
    omar = sign_in("omar")
    for path in (DRAFT, "/authority/matrix/2/adopt/"):
        assert omar.get(path).status_code == 403
        assert omar.post(path, {}).status_code == 403
        assert Client().get(path).status_code == 302
    page = text(omar.get("/authority/?version=2"))
    assert "400,000 EUR" in page
    assert "Adopt v2" not in page
    assert DRAFT not in page
    assert sign_in("sara").get("/authority/matrix/77/adopt/").status_code == 404
    assert sign_in("sara").get(f"/authority/matrix/{'9' * 30}/adopt/").status_code == 404


def test_each_page_is_one_page(sign_in: SignIn) -> None:
    for path in (DRAFT, "/authority/matrix/1/adopt/"):
        for language in ("es", "en"):
            page = text(sign_in("rita").get(path, headers={"Accept-Language": language}))
            assert page.count("<h1>") == 1
        assert sign_in("rita").get(path, headers={"HX-Request": "true"}).status_code == 200
