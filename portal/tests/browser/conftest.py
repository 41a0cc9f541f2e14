"""Chromium, and a person who has signed in with it."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from iam.access.tests.factories import PASSWORD
from portal.tests.processes import Portal

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A Chromium for the tests of a module."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright keeps an event loop in this thread
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            yield browser
            browser.close()


class Person:
    """Ana in front of her browser; `complaints` is what its console says."""

    def __init__(self, context: BrowserContext, portal: Portal) -> None:
        self.context, self.portal = context, portal
        self.complaints: list[str] = []
        self.page = self.new_page()

    def new_page(self) -> Page:
        page = self.context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.location.get('url')}: {message.text}")

    def sign_in(self) -> None:
        self.page.goto(f"{self.portal.url}/sign-in/")
        self.page.fill("[name=username]", "ana")
        self.page.fill("[name=password]", PASSWORD)
        self.page.click("button.primary")
        self.page.wait_for_url(f"{self.portal.url}/")

    def choose(self, *, theme: str = "light", language: str = "en") -> None:
        self.context.add_cookies(
            [{"name": "theme", "value": theme, "url": self.portal.url},
             {"name": "language", "value": language, "url": self.portal.url}]
        )  # fmt: skip

    def visit(self, path: str) -> Page:
        self.page.goto(f"{self.portal.url}{path}", wait_until="load")
        return self.page


@pytest.fixture
def person(portal: Portal, chromium: Browser) -> Iterator[Person]:
    """Ana, signed in, on a holding that works."""
    context = chromium.new_context(locale="en-GB", reduced_motion="reduce")
    ana = Person(context, portal)
    ana.sign_in()
    yield ana
    context.close()
