"""A command in front of a browser: previewed, given, halted and continued, at every width, without a complaint."""

import pytest
from playwright.sync_api import expect

from portal.tests.browser.conftest import Person
from portal.tests.browser.test_screens import THEMES, assert_fits_every_width
from subsidiaries.commands.tests.factories import give

pytestmark = pytest.mark.browser


def test_a_command_is_previewed_given_and_halted(person: Person) -> None:
    page = person.visit("/s/pricing/")
    page.get_by_role("link", name="Pause agents").click()
    page.get_by_role("textbox", name="Reason").fill("prices of yesterday")
    page.get_by_role("spinbutton", name="Share of each step").fill("20")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("status").first).to_contain_text("5 divisions, 1 unit")
    assert_fits_every_width(page)
    page.get_by_role("button", name="Give the command").click()
    expect(page.get_by_role("status").first).to_contain_text("The command is given.")
    reason = page.get_by_role("textbox", name="Why")
    reason.fill("looks odd")
    page.evaluate("htmx.trigger('#command', 'live')")
    page.wait_for_timeout(1000)
    expect(reason).to_have_value("looks odd")  # what is typed outlives a live update
    page.get_by_role("button", name="Halt").click()
    expect(page.get_by_role("button", name="Continue")).to_be_visible()
    assert_fits_every_width(page)
    assert person.complaints == []


def test_what_is_paused_is_said_at_every_width_in_both_themes(person: Person) -> None:
    command = give(reason="the market is closed, and the house that lists the prices does not answer since noon")
    for theme in THEMES:
        person.choose(theme=theme, language="es" if theme == "dark" else "en")
        for path in ("/", "/s/pricing/", "/commands/", f"/commands/{command.pk}/"):
            page = person.visit(path)
            assert_fits_every_width(page)
    assert person.complaints == []
