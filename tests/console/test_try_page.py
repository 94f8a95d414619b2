"""The page to try an endpoint on, in a real browser that sends its token as a password."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.console.test_console import violations
from tests.unit.deliver.serving.conftest import TOKEN, Plane, numeric_model, opened_plane


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    """It is started in a thread, since the browser has this one's event loop; processes end with their thread."""

    def start() -> None:
        numeric_model(tmp_path / "m")
        running.worker("v7", tmp_path / "m", 7)
        running.route(running.target("v7", version=7))
        running.gateway()

    with opened_plane(tmp_path) as running, ThreadPoolExecutor(1) as thread:
        thread.submit(start).result()
        yield running


@pytest.fixture
def page(plane: Plane, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(http_credentials={"username": "any", "password": TOKEN})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    opened.goto(f"http://127.0.0.1:{plane.port}/endpoints/m/docs")
    yield opened
    context.close()
    assert not [text for text in complaints if "status of 422" not in text], complaints


def test_a_row_is_asked_by_its_fields_or_as_json(page: Page) -> None:
    assert page.title() == "Try m v7" and not violations(page)
    rows = page.get_by_role("textbox", name="Rows as JSON")
    assert page.locator("input[name=b]").input_value() == str(json.loads(rows.input_value())[0]["b"])
    page.get_by_role("button", name="Predict").click()
    page.get_by_text("by version 7").wait_for()
    first = page.get_by_label("Answer as JSON").inner_text()
    assert len(json.loads(first)["predictions"][0]) == 2
    assert page.get_by_label("Predictions").locator("th").all_inner_texts() == ["row", "P(0)", "P(1)"]
    assert page.get_by_label("Predictions").locator("td").first.inner_text() == "0" and not violations(page)

    page.locator("input[name=a]").fill("3.5")
    assert json.loads(rows.input_value())[0]["a"] == 3.5
    assert '"a":3.5' in page.get_by_label("Command").inner_text()
    page.locator("input[name=a]").press("Enter")
    page.wait_for_function("before => document.getElementById('answer').textContent !== before", arg=first)

    page.locator("input[name=a]").fill("much")
    page.get_by_role("button", name="Predict").click()
    page.get_by_text("422: ").wait_for()
    assert "'a'" in page.get_by_text("422: ").inner_text()
    assert not page.get_by_label("Predictions").is_visible()
    assert not page.get_by_label("Answer as JSON").is_visible(), "it would say the same again"
    assert not violations(page)


def test_every_field_can_be_seen_whole_on_a_telephone(page: Page) -> None:
    page.set_viewport_size({"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    region = page.get_by_role("region", name="Columns").bounding_box()
    assert region is not None
    for field in page.locator("input[data-type]").all():
        box = field.bounding_box()
        assert box is not None and box["x"] >= region["x"] and box["width"] > 200
        assert box["x"] + box["width"] <= region["x"] + region["width"]
    assert not violations(page)
