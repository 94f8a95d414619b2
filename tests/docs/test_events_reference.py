"""The events reference names every event of the catalogue."""

from pathlib import Path

from modelyard.events.catalogue import CATALOGUE

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "events.md"


def test_every_event_is_documented_with_its_meaning() -> None:
    text = PAGE.read_text()
    missing = [name for name, meaning in CATALOGUE.items() if f"| `{name}`" not in text or meaning not in text]
    assert missing == [], "run: python docs/generate.py"
