"""First navigation to the page of 100 runs and a chart of 10 curves of 1,000 points, in headless Chromium.

Prints script bytes fetched (compressed as sent, and decoded), first paint, and when the curves are drawn; each a
median of runs in fresh browser contexts (nothing cached). PEERS: MLflow 3.18's empty shell fetches 4.58 MB of script
and paints after 2,540 ms; a prototype of this page 88 KB and 488 ms.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from modelyard.server.guard import COOKIE
from tests.console.house import open_house

RUNS, POINTS, REPEATS = 100, 1000, 5
MEASURE = """() => {
  const scripts = performance.getEntriesByType("resource").filter(r => r.initiatorType === "script");
  const sum = (key) => scripts.reduce((total, r) => total + r[key], 0);
  return [sum("encodedBodySize"), sum("decodedBodySize"), performance.getEntriesByName("first-paint")[0].startTime];
}"""


def measure(browser: Browser, url: str, token: str, page_path: str) -> tuple[float, float, float, float]:
    """(script bytes sent, decoded, first paint ms, curves drawn ms) of a browser that was never here."""
    context = browser.new_context()
    context.add_cookies([{"name": COOKIE, "value": token, "url": url}])
    page = context.new_page()
    page.goto(url + page_path)
    page.wait_for_selector("figure[data-drawn]")
    drawn = page.evaluate("performance.now()")
    sent, decoded, paint = page.evaluate(MEASURE)
    context.close()
    return sent, decoded, paint, drawn


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, open_house(Path(folder)) as house, sync_playwright() as playwright:
        house.curves("search", RUNS, POINTS)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        found = [measure(browser, house.url, house.tokens["owner"], "/experiments/1") for _ in range(REPEATS)]
        browser.close()
    sent, decoded, paint, drawn = (statistics.median(values) for values in zip(*found, strict=True))
    print(f"script sent {sent / 1000:.0f} kB, decoded {decoded / 1000:.0f} kB (bound: 100 kB)")
    print(f"first paint {paint:.0f} ms, 10 curves of {POINTS} points drawn after {drawn:.0f} ms")


if __name__ == "__main__":
    main()
