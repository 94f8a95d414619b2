"""The story as one HTML file that needs nothing else."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.kit.clock import iso
from modelyard.kit.files import atomic_write

if TYPE_CHECKING:
    from modelyard.cli.demo.story import Month

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --paper: #fff; --line: #d9dee5;
  --a: #1f6feb; --b: #c2571a }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #9aa6b5; --paper: #11161d; --line: #2b3440; --a: #6ea8fe; --b: #f0a36b }
}
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 56rem;
  margin: 2.5rem auto; padding: 0 1.2rem }
h1 { font-size: 1.7rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; width: 100% } td, th { padding: .35rem .6rem; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
pre { white-space: pre-wrap; font: 13px/1.5 ui-monospace, monospace; margin: 0 } .soft, .event { color: var(--soft) }
.command { color: var(--a) } svg { width: 100%; height: auto } svg text { fill: var(--soft); font: 12px system-ui }
"""


def write_report(
    target: Path,
    transcript: Sequence[tuple[str, str]],
    months: "Sequence[Month]",
    chain: Sequence[dict[str, Any]],
    seconds: float,
) -> None:
    """Write the report: AUC by month as chart and table, the causal chain, the whole transcript."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>modelyard: a year of flights</title><style>{STYLE}</style>",
        "<h1>A year of flights, told by modelyard</h1>",
        f"<p class=soft>The demo took {seconds:.0f} s. A model that predicts late arrivals was trained on January "
        "and February 2013. On the left it stays as it is; on the right the platform watches it, retrains it and "
        "asks for approval.</p><h2>ROC AUC by month</h2>",
        chart(months),
        "<table><thead><tr><th>month<th class=n>left alone<th class=n>with modelyard<th class=n>version"
        "<th class=n>flights</thead><tbody>",
        *(
            f"<tr><td>{month.name}<td class=n>{month.alone:.3f}<td class=n>{month.kept:.3f}"
            f"<td class=n>v{month.version}<td class=n>{month.rows}"
            for month in months
        ),
        "</tbody></table><h2>From the drifted column to the new champion</h2><table><tbody>",
        *(
            f"<tr><td class=soft>{iso(event['time'])[11:19]}<td>{escape(event['type'])}"
            f"<td>{escape(str(event['data'].get('title') or event['subject']))}"
            f"<td class=soft>{escape(event['actor'])}"
            for event in chain
        ),
        "</tbody></table><h2>Everything that was said</h2>",
        *(f"<pre class={kind}>{escape(text)}</pre>" for kind, text in transcript),
    ]
    atomic_write(target, "\n".join(parts).encode())


def chart(months: "Sequence[Month]") -> str:
    """Two lines over the months, as SVG."""
    width, height, left, top, bottom = 720, 260, 46, 14, 30
    low = min(min(month.alone, month.kept) for month in months) - 0.02
    high = max(max(month.alone, month.kept) for month in months) + 0.02

    def spot(index: int, value: float) -> tuple[float, float]:
        across = left + index * (width - left - 20) / max(1, len(months) - 1)
        return across, top + (high - value) / (high - low) * (height - top - bottom)

    lines: list[str] = []
    for name, colour, values in (
        ("left alone", "var(--b)", [month.alone for month in months]),
        ("with modelyard", "var(--a)", [month.kept for month in months]),
    ):
        spots = [spot(index, value) for index, value in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        lines.append(
            f"<polyline points='{path}' fill=none stroke='{colour}' stroke-width=2.5><title>{name}</title></polyline>"
        )
        lines += [f"<circle cx={x:.1f} cy={y:.1f} r=4 fill='{colour}'/>" for x, y in spots]
        x, y = spots[-1]
        lines.append(f"<text x={x:.1f} y={y - 10:.1f} text-anchor=end>{name}</text>")
    marks = [round(low + step * (high - low) / 4, 2) for step in range(5)]
    grid = [
        f"<line x1={left} x2={width - 20} y1={spot(0, mark)[1]:.1f} y2={spot(0, mark)[1]:.1f} stroke='var(--line)'/>"
        f"<text x={left - 8} y={spot(0, mark)[1] + 4:.1f} text-anchor=end>{mark:.2f}</text>"
        for mark in marks
    ]
    names = [
        f"<text x={spot(index, low)[0]:.1f} y={height - 8} text-anchor=middle>{month.name[:3]}</text>"
        for index, month in enumerate(months)
    ]
    label = "ROC AUC by month, left alone and with modelyard"
    return (
        f"<svg viewBox='0 0 {width} {height}' role=img aria-label='{label}'>{''.join([*grid, *lines, *names])}</svg>"
    )
