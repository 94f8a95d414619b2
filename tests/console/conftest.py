"""One furnished yard and one browser for all tests of the console."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.console.house import House, furnish, open_house

CHROMIUM = "/usr/bin/chromium"
expect.set_options(timeout=30_000)  # a guard, as long as that of what a page is told to do


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("console")) as opened:
        furnish(opened)
        yield opened


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class Complaints(list[str]):
    """What the browser said against a page: errors, and what the content security policy refused."""


@pytest.fixture
def visit(house: House, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a browser of a person who is signed in; fails the test when a page made the browser complain."""
    opened: list[BrowserContext] = []
    complaints = Complaints()

    def visit_as(name: str, path: str = "/", **options: object) -> Page:
        context = browser.new_context(base_url=house.url, **options)  # pyright: ignore[reportArgumentType]
        opened.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(house.sign_in_path(name))
        if path != "/":
            page.goto(path)
        return page

    yield visit_as
    for context in opened:
        context.close()
    refused = [text for text in complaints if "status of 4" not in text]
    assert not refused, refused
