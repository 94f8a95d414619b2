"""How the console writes values: times, numbers, sizes, links to subjects."""

import math
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from modelyard.kit.clock import iso, now_ms

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
STATES = {
    "good": {
        "approved", "completed", "live", "serves", "finished", "passed", "ok", "resolved", "answers", "cached",
        "ready", "approve",
    },
    "bad": {
        "rejected", "aborted", "failed", "critical", "alert", "does not answer", "killed", "broken", "reject",
    },
    "busy": {
        "pending", "starting", "shifting", "running", "open", "paused", "warning", "scheduled", "acknowledged",
        "cancelling",
    },
}  # fmt: skip


def age(ms: int | None) -> str:
    """How long ago a moment was, in one unit: `4 min ago`."""
    if ms is None:
        return "–"
    gone = (now_ms() - ms) / 1000
    return f"in {duration(-gone * 1000)}" if gone < -1 else f"{duration(gone * 1000)} ago" if gone >= 1 else "now"


def duration(ms: float | None) -> str:
    """A length of time in the largest unit that fits: `3 min`, `1.4 s`, `250 ms`."""
    if ms is None:
        return "–"
    seconds = ms / 1000
    if seconds < 1:
        return f"{max(0, ms):.0f} ms"
    for length, unit in UNITS:
        if seconds >= length:
            amount = seconds / length
            return f"{amount:.1f} {unit}" if amount < 10 and unit in ("s", "h") else f"{amount:.0f} {unit}"
    return "0 s"


def exact(ms: int | None) -> str:
    """The moment in full, UTC, to the second."""
    return "" if ms is None else iso(ms)[:19].replace("T", " ") + " UTC"


def number(value: Any, digits: int = 4) -> str:
    """A number with few digits, or – for none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{value:,.0f}".replace(",", "\u202f")
    if not math.isfinite(value):
        return str(value).replace("inf", "∞")
    return f"{value:.{digits}g}"


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}" if abs(value) < 10 else f"{value:+.4g}"


def percent(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value * 100:.{digits}f}%"


def size(count: int | None) -> str:
    """Bytes in decimal units."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def tone(state: object) -> str:
    """Which of good, bad, busy, plain a state's badge is coloured."""
    text = str(state).lower().replace("logged_model_", "")
    return next((name for name, words in STATES.items() if text in words), "plain")


def clock(ms: int, zone: str) -> str:
    """The moment on the wall clock of an IANA zone, with its offset's name."""
    return datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S %Z")


def at(*parts: object) -> str:
    """The address of a page from its path's parts, each escaped."""
    return "/" + "/".join(quote(str(part), safe="") for part in parts)


def with_query(path: str, /, **values: Any) -> str:
    """`path` with the values that are set as its query."""
    kept = {key: value for key, value in values.items() if value not in (None, "", False)}
    return f"{path}?{urlencode(kept, doseq=True)}" if kept else path


def subject(text: str) -> str | None:
    """The page of an event's subject; None when it has none."""
    kind, _, rest = text.partition("/")
    parts = rest.split("/")
    places = {
        "version": lambda: at("models", parts[0], "versions", parts[1]) if len(parts) == 2 else None,
        "endpoint": lambda: at("endpoints", parts[0], parts[1]) if len(parts) == 2 else None,
        "model": lambda: at("models", rest),
        "alert": lambda: at("alerts", rest),
        "run": lambda: at("runs", rest),
        "experiment": lambda: at("experiments", rest),
        "pipeline": lambda: at("schedules", rest),
        "pipeline-run": lambda: at("pipelines", rest),
        "principal": lambda: "/principals",
        "token": lambda: "/principals",
    }
    return places[kind]() if kind in places and rest else None
