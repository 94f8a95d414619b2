"""The report's plots, as SVG text: differences with their intervals, and where the time went."""

from collections.abc import Sequence
from html import escape

from modelyard.build.ci.comparison import MetricRow

WIDTH, ROW, LEFT, RIGHT = 640, 26, 170, 90
COLOURS = {"better": "#1a7f37", "worse": "#cf222e", "within noise": "#6e7781", "noise unknown": "#6e7781"}


def differences(rows: Sequence[MetricRow]) -> str:
    """One line a metric: its difference to the champion with the interval, scaled to its own reach."""
    drawn = [row for row in rows if row.low is not None and row.high is not None and row.high > row.low]
    middle, reach = LEFT + (WIDTH - LEFT - RIGHT) / 2, (WIDTH - LEFT - RIGHT) / 2
    parts = [_line(middle, 8, middle, 14 + ROW * len(drawn), "#8c959f", 'stroke-dasharray="3 3"')]
    for index, row in enumerate(drawn):
        assert row.low is not None and row.high is not None and row.difference is not None, "filtered above"
        y = 22 + ROW * index
        most = max(abs(row.low), abs(row.high)) or 1.0
        low, at, high = (middle + value / most * reach * 0.95 for value in (row.low, row.difference, row.high))
        colour = COLOURS[row.verdict]
        parts.append(_text(LEFT - 10, y + 4, row.metric, "end"))
        parts.append(_line(low, y, high, y, colour, 'stroke-width="2"'))
        parts.append(f'<circle cx="{at:.1f}" cy="{y}" r="4" fill="{colour}"/>')
        parts.append(_text(WIDTH - RIGHT + 10, y + 4, f"{row.difference:+.4f}", "start"))
    title = "Difference to the champion with its 95% interval, each metric on its own scale"
    return _svg(24 + ROW * max(1, len(drawn)), title, parts)


def times(seconds: dict[str, float]) -> str:
    """One bar a step, the longest first."""
    ordered = sorted(seconds.items(), key=lambda item: -item[1])[:20]
    most = max((value for _, value in ordered), default=1.0) or 1.0
    parts: list[str] = []
    for index, (step, value) in enumerate(ordered):
        y, length = 8 + ROW * index, value / most * (WIDTH - LEFT - RIGHT)
        parts.append(_text(LEFT - 10, y + 14, step, "end"))
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{max(1.0, length):.1f}" height="{ROW - 8}" fill="#0969da"/>')
        parts.append(_text(LEFT + length + 8, y + 14, f"{value:.2f} s", "start"))
    return _svg(16 + ROW * max(1, len(ordered)), "Seconds by step", parts)


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" role="img"'
    style = 'font-family="system-ui, sans-serif" font-size="12"'
    ground = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
    return f"{head} {style}><title>{escape(title)}</title>{ground}{''.join(parts)}</svg>\n"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#1f2328">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'
