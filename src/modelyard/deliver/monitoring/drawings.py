"""Small pictures as SVG, made from sketches: they need no library and fit in a mail."""

from html import escape

import numpy as np

from modelyard.deliver.monitoring.reference import Reference
from modelyard.deliver.monitoring.sketches import CategoryLayout, Floats, NumericLayout, Sketch

BINS = 24
MOST_BARS = 12
BEFORE, AFTER = "#8a94a3", "#1f6feb"


def column(reference: Reference, current: Sketch, name: str, width: int = 260, height: int = 76) -> str:
    """A column's distribution before (grey) and after (blue), as one SVG element."""
    layout = reference.layout.columns[name]
    if isinstance(layout, NumericLayout):
        before, after, low, high = _histograms(reference.sketch, current, name, layout)
        labels = [f"{low:.4g}", f"{high:.4g}"]
    else:
        before, after, labels = _bars(reference.sketch, current, name, layout)
    top = max(float(before.max(initial=0)), float(after.max(initial=0)), 1e-9)
    step, plot = width / max(len(before), 1), height - 14
    grey = [_bar(i * step, v / top * plot, step * 0.96, plot, BEFORE, 0.45) for i, v in enumerate(before)]
    blue = [_bar(i * step + step * 0.22, v / top * plot, step * 0.5, plot, AFTER, 0.9) for i, v in enumerate(after)]
    texts = [f"<text x='0' y='{height - 2}'>{escape(labels[0])}</text>"] if labels else []
    if len(labels) > 1:
        texts.append(f"<text x='{width}' y='{height - 2}' text-anchor='end'>{escape(labels[-1])}</text>")
    label = escape(f"{name} before and after", quote=True)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img' aria-label='{label}' font-size='10' font-family='sans-serif' fill='#5b6675'>"
        f"{''.join([*grey, *blue, *texts])}</svg>"
    )


def _bar(x: float, size: float, width: float, plot: float, colour: str, opacity: float) -> str:
    return (
        f"<rect x='{x:.1f}' y='{plot - size:.1f}' width='{width:.1f}' height='{size:.1f}' "
        f"fill='{colour}' fill-opacity='{opacity}'/>"
    )


def _histograms(
    reference: Sketch, current: Sketch, name: str, layout: NumericLayout
) -> tuple[Floats, Floats, float, float]:
    """(shares before, shares after, lowest, highest) over BINS bins of equal width, the extreme percent left out."""
    cumulative = reference.counted(name) / max(reference.known(name), 1)
    after = current.counted(name) / max(current.known(name), 1)
    ends: list[float] = []
    for shares in (cumulative, after):
        ends += [float(layout.edges[min(int(np.searchsorted(shares, q)), len(shares) - 1)]) for q in (0.01, 0.99)]
    low, high = min(ends), max(ends)
    if high <= low:
        low, high = low - 0.5, low + 0.5
    bounds = np.linspace(low, high, BINS + 1)
    bounds[0] = np.nextafter(bounds[0], -np.inf)
    return _between(layout, cumulative, bounds), _between(layout, after, bounds), low, high


def _between(layout: NumericLayout, cumulative: Floats, bounds: Floats) -> Floats:
    at = np.interp(bounds, layout.edges, cumulative, left=0.0)
    return np.diff(at)


def _bars(reference: Sketch, current: Sketch, name: str, layout: CategoryLayout) -> tuple[Floats, Floats, list[str]]:
    before = reference.counted(name) / max(reference.known(name), 1)
    after = current.counted(name) / max(current.known(name), 1)
    chosen = np.argsort(-(before + after), kind="stable")[:MOST_BARS]
    names = [*layout.names, "other"]
    return before[chosen], after[chosen], [names[slot] for slot in chosen]


def line(values: list[float | None], limit: float | None = None, width: int = 520, height: int = 120) -> str:
    """A series over windows with its limit as a dashed line, as one SVG element."""
    known = [value for value in values if value is not None] + ([limit] if limit is not None else [])
    if not known:
        return ""
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    step = width / max(len(values) - 1, 1)

    def y(value: float) -> float:
        return 8 + (high - value) / span * (height - 16)

    spots = [(index * step, y(value)) for index, value in enumerate(values) if value is not None]
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in spots)
    dashed = (
        f"<line x1='0' x2='{width}' y1='{y(limit):.1f}' y2='{y(limit):.1f}' stroke='#c2571a' stroke-dasharray='4 4'/>"
        if limit is not None
        else ""
    )
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img' aria-label='by window'>{dashed}"
        f"<polyline points='{path}' fill='none' stroke='{AFTER}' stroke-width='2'/></svg>"
    )
