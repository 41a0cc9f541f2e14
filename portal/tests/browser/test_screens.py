"""What a person sees and does: no complaint of the browser, no sideways scrolling, no barrier, and live figures."""

import random
import re
from decimal import Decimal
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page, expect

from holding import clock
from holding.models import Agent, Seat, Unit
from iam.access.models import User
from iam.authority.matrix import read_matrix
from iam.authority.models import Approval
from iam.authority.services import Request, appoint_to_office, install_matrix, request_approval
from portal.tests.browser.conftest import Person
from portal.tests.factories import hear, make_replacements, make_shortage
from subsidiaries.escalations import services
from subsidiaries.escalations.models import Escalation
from subsidiaries.replacement.planning import CapDelegation, Retiree, Retirement
from subsidiaries.replacement.rollout_models import Rollout, RolloutSeat, RolloutUnit

pytestmark = pytest.mark.browser

PAGES = [
    "/", "/s/pricing/", "/a/pricing/op-0031-g2/", "/agents/", "/org/", "/arp/", "/activity/", "/agents/?q=zz",
    "/approvals/", "/approvals/new/", "/authority/", "/authority/mine/", "/authority/rates/",
    "/escalations/", "/escalations/?state=resolved",
    "/commands/", "/commands/new/", "/blueprints/", "/blueprints/new/?blueprint=operator",
    "/blueprints/operator/1/", "/rollouts/", "/rollouts/new/",
    "/staffing/", "/staffing/pricing/change/", "/staffing/pricing/cap/", "/staffing/pricing/retire/",
]  # fmt: skip
WIDTHS = [320, 768, 1440]
THEMES = ["light", "dark"]
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def assert_no_barrier(page: Page) -> None:
    results = Axe().run(page, options=RULES)
    found = [
        (rule["id"], [node["html"][:140] + " " + str(node.get("any"))[:160] for node in rule["nodes"]][:3])
        for rule in results.response["violations"]
    ]
    assert found == [], page.url


def assert_fits(page: Page, width: int) -> None:
    wide = page.evaluate(
        """() => [document.documentElement.scrollWidth, [...document.querySelectorAll("main *")]
             .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
             .slice(0, 3).map((e) => e.outerHTML.slice(0, 90))]"""
    )
    assert wide[0] <= width, (page.url, width, wide)


def assert_fits_every_width(page: Page) -> None:
    """Look at the page at every width, and for barriers at one of them: they seldom depend on it."""
    looked_at = random.choice(WIDTHS)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert_fits(page, width)
        if width == looked_at:
            assert_no_barrier(page)


@pytest.fixture
def events(person: Person) -> None:
    make_replacements("pricing", count=3)
    make_shortage("cloud")
    make_approvals()
    make_escalations()


def make_escalations() -> None:
    """Two that wait, one of them overdue, and one that was decided."""
    for number in range(3):
        services.note_raised(
            reports=[
                services.Report(
                    code=f"screen-{number}", unit="pricing", agent="org.claytom.pricing.operator.op-0031-g2",
                    level="holding", severity=("critical", "medium", "low")[number], matter="staffing",
                    summary="op-0031-g2 failed: 3 crashes in 60 s; WorkerError: the price list has no currency",
                    needs="a new agent for the seat, or the currency of the list", work_id="", taken_by="",
                    at=timezone.now(),
                )
            ]
        )  # fmt: skip
    Escalation.objects.filter(code="screen-0").update(due_at=timezone.now())
    services.resolve(
        escalation=Escalation.objects.get(code="screen-2"), by=User.objects.get(username="ana"), decision="go on"
    )


@pytest.mark.usefixtures("events")
def test_an_escalation_fits_every_width_and_is_decided(person: Person) -> None:
    page = person.visit("/escalations/")
    page.get_by_role("link", name=re.compile("^#.* op-0031-g2 failed")).first.click()
    assert_fits_every_width(page)
    page.get_by_role("button", name="Take it").click()
    expect(page.get_by_role("status").first).to_contain_text("It is yours now")
    page.get_by_role("textbox", name="Decision").fill("use euros")
    page.get_by_role("button", name="Decide").click()
    expect(page.get_by_role("status").first).to_contain_text("The decision is noted")
    expect(page.locator("#steps").locator("..").locator("..")).to_contain_text("use euros")
    assert person.complaints == []


def make_rollout() -> None:
    """One that waits after a canary failed, with a reason as long as reasons are."""
    unit, now, failure = (
        Unit.objects.get(slug="pricing"),
        clock.now(),
        "3 crashes in 60 s; WorkerError: no currency",
    )
    agent = Agent.objects.get(unit=unit, agent_id="op-0031-g2")
    rollout = Rollout.objects.create(
        blueprint=agent.blueprint.blueprint, version=agent.blueprint, unit=unit, actor="ana", key="screen",
        reason="the version that reads price lists of two currencies, after the incident of the second of March",
        created_at=now, changed_at=now, canary=5, observe_s=600, patience_s=600, halt_above=10, wave=75, surge=75,
        state="paused", paused_from="canary", note=failure,
    )  # fmt: skip
    RolloutUnit.objects.create(
        rollout=rollout, unit=unit, blueprint=agent.blueprint.blueprint, agents=5, canaries=1
    )
    RolloutSeat.objects.create(
        rollout=rollout, unit=unit, seat=agent.seat, former=agent.blueprint, generation=2, begun_at=now,
        failed_at=now, failure=failure,
    )  # fmt: skip


@pytest.mark.usefixtures("events")
def test_a_rollout_fits_every_width(person: Person) -> None:
    make_rollout()
    page = person.visit("/rollouts/")
    page.locator("#rollouts tbody").get_by_role("link").first.click()
    assert_fits_every_width(page)
    assert person.complaints == []


def make_staffing() -> None:
    """A retirement that goes on and a delegated cap, with reasons as long as reasons are."""
    unit, now, approval = Unit.objects.get(slug="pricing"), clock.now(), Approval.objects.all()[0]
    seat = Seat.objects.get(unit=unit, role__slug="operator", ordinal=31)
    assert seat.role
    reason = "agents that were made before the incident of the second of March, whose price lists have no currency"
    made = Retirement.objects.create(
        unit=unit, role=seat.role, choice="named", detail="op-0031", state="running", actor="ana", reason=reason,
        key="screen", created_at=now, changed_at=now,
    )  # fmt: skip
    Retiree.objects.create(retirement=made, seat=seat, generation=seat.generation, place=0)
    CapDelegation.objects.create(unit=unit, cap=12, starts_on=now.date(), reason=reason, approval=approval)


@pytest.mark.usefixtures("events")
def test_the_staffing_of_a_unit_fits_every_width(person: Person) -> None:
    make_staffing()
    for theme in THEMES:
        person.choose(theme=theme, language="es" if theme == "dark" else "en")
        page = person.visit("/staffing/pricing/")
        assert_fits_every_width(page)
    assert person.complaints == []


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("what", "fields"), [("change", {"reserve": "1", "maximum": "9"}), ("retire", {"count": "3", "surge": "1"})]
)
def test_what_is_to_be_confirmed_of_staffing_fits_every_width(
    person: Person, what: str, fields: dict[str, str]
) -> None:
    page = person.visit(f"/staffing/pricing/{what}/")
    for name, value in {**fields, "reason": "the price lists have no currency"}.items():
        page.locator(f"[name={name}]").fill(value)
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("button[name=confirm]")).to_be_visible()
    assert_fits_every_width(page)
    assert person.complaints == []


def make_approvals() -> None:
    """A matrix in force, an office of Ana's, a request that waits for her, and one of her own."""
    install_matrix(data=read_matrix(), actor="test")
    ana = User.objects.get(username="ana")
    appoint_to_office(office="group-cfo", person=ana, actor="test", valid_from=clock.now())
    for requester in (None, ana):
        request = Request(
            matter="opex-budgeted", unit=Unit.objects.get(slug="pricing"), value=Decimal(1_234_567),
            title="A contract with a title as long as titles of contracts are", key=f"screen-{requester}",
            requester=requester, counterparty="Acme Industries", parameters={"reference": "4711-0815"},
        )  # fmt: skip
        request_approval(request=request)


@pytest.mark.usefixtures("events")
def test_an_approval_fits_every_width_and_is_decided(person: Person) -> None:
    page = person.visit("/approvals/")
    page.locator("section", has=page.locator("#waiting")).get_by_role("link").first.click()
    assert_fits_every_width(page)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("status").first).to_contain_text("Your decision is noted")
    assert person.complaints == []


@pytest.mark.usefixtures("events")
def test_every_page_fits_every_width_without_a_complaint(person: Person) -> None:
    for path in PAGES:  # in one of the themes; `full` has both
        theme = random.choice(THEMES)
        person.choose(theme=theme, language="es" if theme == "dark" else "en")
        page = person.visit(path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert_fits(page, width)
    assert person.complaints == []


@pytest.mark.usefixtures("events")
def test_a_share_of_the_pages_has_no_barrier(person: Person) -> None:
    for path in random.sample(PAGES, len(PAGES) // 2):  # `full` has all pages, themes, widths and languages
        wide = random.random() < 0.5
        person.choose(theme="light" if wide else "dark")
        page = person.visit(path)
        page.set_viewport_size({"width": 1440 if wide else 320, "height": 900})
        assert_no_barrier(page)


@pytest.mark.full
@pytest.mark.usefixtures("events")
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("language", ["es", "en"])
def test_no_page_has_a_barrier_anywhere(person: Person, theme: str, language: str, width: int) -> None:
    person.choose(theme=theme, language=language)
    person.page.set_viewport_size({"width": width, "height": 900})
    for path in PAGES:
        page = person.visit(path)
        assert_fits(page, width)
        assert person.complaints == [], path
        assert_no_barrier(page)
        person.complaints.clear()  # axe provokes the policy on styles


def test_the_sign_in_has_no_barrier_and_tells_of_a_mistake(person: Person) -> None:
    person.page.goto("about:blank")
    person.context.clear_cookies()
    person.choose()
    page = person.visit("/sign-in/")
    page.fill("[name=username]", "ana")
    page.fill("[name=password]", "wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Name or password is wrong.")
    person.complaints = [one for one in person.complaints if "422" not in one]
    assert person.complaints == []
    assert_no_barrier(page)


def test_a_change_arrives_on_every_open_tab_through_one_connection(person: Person) -> None:
    first, second = person.visit("/"), person.new_page()
    second.goto(f"{person.portal.url}/")
    pages = [first, second]
    for page in pages:
        page.evaluate("Object.defineProperty(document, 'hidden', {get: () => false})")  # headless: one is in front
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    first.wait_for_timeout(2500)
    make_shortage("cloud", missing=1)
    hear()
    for page in pages:
        expect(page.locator("#answer")).to_contain_text("1 unit below its floor:", timeout=10_000)
        expect(page.locator("#row-cloud")).to_contain_text("−1")
    streams = [
        page.evaluate("performance.getEntriesByType('resource').filter((e) => e.name.includes('/live/')).length")
        for page in pages
    ]
    assert sum(streams) <= 2
    assert person.complaints == []


def test_paused_updates_wait_and_resume(person: Person) -> None:
    page = person.visit("/")
    page.get_by_role("button", name="Pause updates").click()
    expect(page.get_by_role("button", name="Resume updates")).to_have_attribute("aria-pressed", "true")
    make_shortage("cloud", missing=1)
    hear()
    page.wait_for_timeout(3000)
    expect(page.locator("#answer")).not_to_contain_text("below its floor")
    page.get_by_role("button", name="Resume updates").click()
    expect(page.locator("#answer")).to_contain_text("below its floor", timeout=8000)


def test_the_palette_finds_an_agent_with_the_keyboard_alone(person: Person) -> None:
    page = person.visit("/")
    page.keyboard.press("Control+k")
    words = page.get_by_role("combobox", name="Page, subsidiary or agent")
    expect(words).to_be_focused()
    assert_no_barrier(page)
    words.type("op-0032")
    expect(page.locator("#palette-hits li").first).to_contain_text("op-0032-g1")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/a/[a-z-]+/op-0032-g1/"))
    page.keyboard.press("/")
    expect(words).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#palette")).not_to_be_visible()


def test_the_keyboard_reaches_the_content_and_opens_a_branch(person: Person) -> None:
    page = person.visit("/org/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    branch = page.locator("summary", has_text="C-Suite").first
    branch.focus()
    page.keyboard.press("Enter")
    expect(page.locator("a[href='/a/corporate/c-suite.ceo-g1/']").first).to_be_visible()
    assert_no_barrier(page)


def test_the_field_is_drawn_with_the_colours_of_the_states(person: Person) -> None:
    make_shortage("cloud", missing=1)
    page = person.visit("/org/")
    for _attempt in range(100):  # wait_for_function would evaluate text in the page, which the policy refuses
        if page.evaluate("document.querySelector('#fields canvas').width < 50"):
            break
        page.wait_for_timeout(100)
    colours: Any = page.evaluate(
        """() => { const c = document.querySelector("#fields canvas"); const d = c.getContext("2d")
             .getImageData(0, 0, c.width, c.height).data; const s = new Set();
             for (let i = 0; i < d.length; i += 4) if (d[i + 3]) s.add([d[i], d[i+1], d[i+2]].join());
             return [...s]; }"""
    )
    assert set(colours) == {"178,233,230", "12,12,9"}  # active, and the one that failed


def test_the_theme_changes_at_once_and_stays(person: Person) -> None:
    page = person.visit("/")
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="ES", exact=True).click()
    expect(page.locator("h1")).to_have_text("Resumen ejecutivo")
