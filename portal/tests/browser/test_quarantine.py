"""The quarantine in a browser: every width, theme and language, and the way of a message out of it."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from bus.models import QuarantinedMessage, Suspect
from iam.access.models import User
from iam.access.tests.factories import make_binding
from portal.tests.browser.conftest import Person
from portal.tests.browser.test_screens import THEMES, WIDTHS, assert_fits, assert_no_barrier
from portal.tests.quarantined import make_quarantine

pytestmark = pytest.mark.browser
PICTURES = os.environ.get("PICTURES", "")


@pytest.fixture
def first(person: Person) -> QuarantinedMessage:
    make_binding(User.objects.get(username="ana"), "administrator")
    return make_quarantine()


def picture(person: Person, name: str) -> None:
    """Keep a picture for people, in the directory of the environment's PICTURES."""
    if PICTURES:
        person.page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


def test_list_and_messages_fit_every_width_in_both_themes_and_languages(
    person: Person, first: QuarantinedMessage
) -> None:
    numbers = list(QuarantinedMessage.objects.order_by("pk").values_list("pk", flat=True))
    paths = ["/quarantine/", "/quarantine/?rule=nothing", *(f"/quarantine/{number}/" for number in numbers[:4])]
    for theme in THEMES:
        language = "es" if theme == "dark" else "en"
        person.choose(theme=theme, language=language)
        for place, path in enumerate(paths):
            page = person.visit(path)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                assert_fits(page, width)
                picture(person, f"{place}-{theme}-{language}-{width}")
            assert_no_barrier(page)
    assert person.complaints == []


def test_an_empty_quarantine_fits_too(person: Person) -> None:
    make_binding(User.objects.get(username="ana"), "administrator")
    Suspect.objects.all().delete()
    person.choose(theme="dark", language="es")
    page = person.visit("/quarantine/")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert_fits(page, width)
        picture(person, f"empty-{width}")
    assert_no_barrier(page)
    assert person.complaints == []


def test_a_message_is_found_looked_at_and_discarded(person: Person, first: QuarantinedMessage) -> None:
    page = person.visit("/quarantine/")
    page.get_by_label("Stage").select_option("schema")
    page.get_by_role("button", name="Show", exact=True).click()
    page.get_by_role("link", name=str(first.pk), exact=True).click()
    expect(page.get_by_role("group", name="Body as text")).to_contain_text("</pre><script>")
    page.get_by_label("Reason for discarding").fill("the sender was mended")
    page.get_by_role("button", name="Discard").click()
    expect(page.locator("main")).to_contain_text("the sender was mended")
    assert person.complaints == []
