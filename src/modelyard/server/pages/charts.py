"""Pictures as SVG, made on the server: they need no script and follow the page's colours by class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

MOST_LABELS = 8
"""Below a line; more would run into each other."""
WIDTH = 640


@dataclass(frozen=True)
class Point:
    """A value with its interval; `tone` colours its dot (good, bad, busy or none)."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    tone: str = ""


@dataclass(frozen=True)
class Bar:
    """A bar beside a mark, such as an effect beside its threshold; both >= 0 in one unit."""

    label: str
    value: float
    mark: float | None = None
    tone: str = ""
    text: str = ""


def _svg(width: float, height: float, label: str, parts: Sequence[str], css: str = "picture") -> Any:
    from markupsafe import Markup  # comes with Jinja2, late like it

    box = f'viewBox="0 0 {width:g} {height:g}" class="{css}" role="img" aria-label="{escape(label)}"'
    return Markup(f"<svg {box}>{''.join(parts)}</svg>")  # every text in `parts` went through escape()


def _text(x: float, y: float, text: str, anchor: str = "start", css: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}">{escape(text)}</text>'


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that cover low..high."""
    span = (high - low) or abs(high) or 1.0
    rough = span / count
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first = math.floor(low / step) * step
    return [first + index * step for index in range(count + 3) if first + (index - 1) * step < high]


def trend(
    points: Sequence[Point], label: str, floor: float | None = None, floor_label: str = "", height: int = 190
) -> Any:
    """Values in order, joined by a line, each with its interval; `floor` is a dashed bound."""
    known = [point for point in points if point.value is not None and math.isfinite(point.value)]
    if not known:
        return ""
    seen = [value for p in known for value in (p.value, p.low, p.high, floor) if value is not None]
    marks = _ticks(min(seen), max(seen))
    low, high = marks[0], marks[-1]
    left, right, top, bottom = 54, 14, 12, 26

    def down(value: float) -> float:
        return top + (high - value) / ((high - low) or 1) * (height - top - bottom)

    def across(index: int) -> float:
        return left + (index + 0.5) * (WIDTH - left - right) / len(known)

    parts: list[str] = []
    for mark in marks:
        y = down(mark)
        parts.append(f'<line class="grid-line" x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 8, y + 4, f"{mark:.4g}", "end"))
    if floor is not None:
        y = down(floor)
        parts.append(f'<line class="floor" x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(WIDTH - right, y - 5 if y > top + 12 else y + 15, floor_label, "end"))
    spots = " ".join(f"{across(i):.1f},{down(p.value or 0):.1f}" for i, p in enumerate(known))
    parts.append(f'<polyline class="line" points="{spots}"/>')
    every = -(-len(known) // MOST_LABELS)
    for index, point in enumerate(known):
        x, y = across(index), down(point.value or 0)
        if point.low is not None and point.high is not None:
            parts.append(f'<path class="whisker" d="M{x:.1f} {down(point.low):.1f}V{down(point.high):.1f}"/>')
        title = f"<title>{escape(point.label)}: {point.value:.4g}</title>"
        parts.append(f'<circle class="dot {escape(point.tone)}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">{title}</circle>')
        if index % every == 0:
            parts.append(_text(x, height - 7, point.label, "middle"))
    return _svg(WIDTH, height, label, parts)


def bars(rows: Sequence[Bar], label: str) -> Any:
    """Horizontal bars; a row's mark is a line across its bar."""
    if not rows:
        return ""
    most = max(max(row.value, row.mark or 0) for row in rows) or 1.0
    height, left, right = 24, 170, 120
    parts: list[str] = []
    for index, row in enumerate(rows):
        y = index * height + 4
        length = row.value / most * (WIDTH - left - right)
        name = row.label if len(row.label) <= 24 else row.label[:23] + "…"
        parts.append(_text(left - 10, y + 13, name, "end", "strong"))
        parts.append(
            f'<rect class="bar {escape(row.tone)}" x="{left}" y="{y}" '
            f'width="{max(1.5, length):.1f}" height="16" rx="2">'
            f"<title>{escape(row.label)}: {escape(row.text)}</title></rect>"
        )
        if row.mark is not None:
            x = left + row.mark / most * (WIDTH - left - right)
            parts.append(f'<path class="floor" d="M{x:.1f} {y - 2}v20"/>')
        end = left + max(length, (row.mark or 0) / most * (WIDTH - left - right))
        parts.append(_text(end + 8, y + 13, row.text))
    return _svg(WIDTH, len(rows) * height + 6, label, parts)


def interval(value: float, low: float | None, high: float | None, span: float, tone: str, label: str) -> Any:
    """A difference as a dot with its interval about zero; `span` is the half-width of the scale."""
    width, middle = 144, 72.0
    scale = (middle - 6) / (span or 1)
    parts = [f'<path class="axis" d="M{middle} 1v18"/>']
    if low is not None and high is not None:
        parts.append(f'<path class="whisker" d="M{middle + low * scale:.1f} 10H{middle + high * scale:.1f}"/>')
    parts.append(f'<circle cx="{middle + value * scale:.1f}" cy="10" r="4" fill="currentColor"/>')
    return _svg(width, 20, label, parts, f"interval {tone}")


def spark(values: Sequence[float], label: str) -> Any:
    """A small line without axes."""
    if len(values) < 2:
        return ""
    most = max(values) or 1.0
    step = 128 / (len(values) - 1)
    spots = " ".join(f"{i * step:.1f},{24 - value / most * 21:.1f}" for i, value in enumerate(values))
    area = f'<polygon class="area" points="0,26 {spots} 128,26"/>'
    return _svg(128, 26, label, [area, f'<polyline class="line" points="{spots}"/>'], "spark")


def shares(parts: Sequence[tuple[str, float]], label: str) -> Any:
    """Shares of a whole as one bar, in the series' colours by position."""
    total = sum(value for _, value in parts) or 1.0
    x, pieces = 0.0, list[str]()
    for index, (name, value) in enumerate(parts):
        width = value / total * WIDTH
        title = f"<title>{escape(name)}: {value / total:.0%}</title>"
        pieces.append(
            f'<rect class="series s{index % 10}" x="{x:.1f}" y="0" width="{width:.1f}" height="14">{title}</rect>'
        )
        x += width
    return _svg(WIDTH, 14, label, pieces)
