"""Take the README's picture of a version's page from a running yard: `python docs/images/take.py HOME MODEL VERSION`.

HOME is the yard's folder, such as the demo's (`modelyard demo --keep-running --folder F`, then `F/.modelyard`).
"""

import json
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from modelyard.client.api import Client

HERE = Path(__file__).parent
WIDTH, HEIGHT = 1240, 860


def take(url: str, token: str, model: str, version: str, target: Path) -> None:
    address = Client.connect(url, token).call("POST", "/api/v1/sign-in")["path"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(url + address)
        page.goto(f"{url}/models/{model}/versions/{version}")
        page.screenshot(path=target)
        browser.close()


if __name__ == "__main__":
    home, model, version = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    url = json.loads((home / "run" / "server.json").read_text())["url"]
    token = json.loads((home / "credentials.json").read_text())["local"]["token"]
    take(url, token, model, version, HERE / "version.png")
