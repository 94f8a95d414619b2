"""The tables of bench_serving: figures by server, the floors, and whether they are met."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

Figures = dict[str, Any]
"""By `model/peer`: {server: {cell: {figure: value}}}; by part: the same; `missing`: why a peer was not measured."""
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
SHOWN = {
    "bare": "bare handler on uvicorn",
    "bare-batched": "the same, micro-batched",
    "onnx": "the same, micro-batched, ONNX Runtime",
    "fastapi": "FastAPI",
    "ray": "Ray Serve",
    "litserve": "LitServe",
    "mlserver": "MLServer, without parallel workers",
    "bentoml": "BentoML",
    "mlflow": "mlflow models serve",
}
TITLES = {
    "logistic": "Logistic regression",
    "boosting": "Histogram gradient boosting, 100 trees",
    "twin": "The same boosting, ours served by ONNX Runtime (its twin in double precision)",
}
LEAST = ("bare", "bare-batched", "onnx")
"""Not servers that anyone runs: what the least possible code does."""


def peers(figures: Figures, model: str) -> dict[str, Any]:
    return {name: figures[f"{model}/{name}"] for name in SHOWN if f"{model}/{name}" in figures}


def mine(figures: Figures, model: str, cell: str, figure: str) -> float:
    return median(found["modelyard"][cell][figure] for found in peers(figures, model).values())


def times(figures: Figures, model: str, name: str, cell: str, figure: str = "rate") -> float | None:
    """Ours divided by the peer's, measured in turns; None when it was not measured."""
    found = figures.get(f"{model}/{name}")
    return found["modelyard"][cell][figure] / max(found[name][cell][figure], 1e-9) if found else None


def table(figures: Figures) -> str:
    parts = [_servers(figures, model) for model in TITLES if peers(figures, model)]
    parts += [text for text in (_others(figures), _floors(figures)) if text]
    return "\n\n".join(parts)


def _servers(figures: Figures, model: str) -> str:
    lines = [
        f"{TITLES[model]}: requests/s, median and p99 in ms, CPU of a request in us; in brackets ours over theirs.",
        "",
        "| server | 1 row, 1 connection | 1 row, 32 connections | 100 rows, 32 connections | resident MB |",
        "|---|---|---|---|---|",
    ]
    found = peers(figures, model)
    cells = ("1x1", "1x32", "100x32")
    kinds = ("rate", "p50", "p99", "cpu")
    own = {cell: {kind: mine(figures, model, cell, kind) for kind in kinds} for cell in cells}
    memory = [mine(figures, model, "memory", kind) for kind in ("all", "front")]
    shown = [_cell(own[cell]) for cell in cells]
    lines.append(f"| **modelyard** | {' | '.join(shown)} | {memory[0]:.0f}, of it the gateway {memory[1]:.0f} |")
    for name, pair in found.items():
        shown = [f"{_cell(pair[name][cell])} ({times(figures, model, name, cell):.3g}x)" for cell in cells]
        lines.append(f"| {SHOWN[name]} | {' | '.join(shown)} | {pair[name]['memory']['all']:.0f} |")
    for name, why in figures.get("missing", {}).items():
        if name.startswith(f"{model}/"):
            lines.append(f"| {SHOWN[name.split('/')[1]]} | not measured: {why} | | | |")
    return "\n".join(lines)


def _cell(found: dict[str, float]) -> str:
    failed = f", {found['failed']:.0f} failed" if found.get("failed") else ""
    return f"{found['rate']:,.0f}, {found['p50']:.2f}, {found['p99']:.1f}, {found['cpu']:,.0f}{failed}"


def _others(figures: Figures) -> str:
    lines: list[str] = []
    if shadow := figures.get("shadow"):
        kept = shadow["with"]["1x32"]["rate"] / shadow["without"]["1x32"]["rate"]
        lines.append(f"- All requests mirrored to a shadow: {kept:.0%} of the requests/s without.")
    if switch := figures.get("switch"):
        cell = switch["modelyard"]["switch"]
        lines.append(
            f"- Three switches of versions at {cell['rate']:,.0f} requests/s: {cell['requests']:,.0f} requests, "
            f"{cell['failed']:.0f} failed; p99 {cell['p99 away']:.1f} ms, around a switch {cell['p99 near']:.1f} ms."
        )
    if memory := figures.get("memory"):
        cell = memory["modelyard"]["memory"]
        lines.append(
            f"- Memory of the gateway: {cell['started']:.0f} MB when started, {cell['after load']:.0f} after load, "
            f"{cell['idle and slow']:.0f} MB with 1,000 idle connections and 100 callers that send no end, "
            f"{cell['after more load']:.0f} MB after more load beside them ({cell['requests']:,.0f} requests in all, "
            f"{cell['failed']:.0f} failed; {cell['rate beside'] / cell['rate alone']:.0%} of the requests/s without)."
        )
    return "\n".join(lines)


Read = Callable[[Figures], float | None]


def _least(model: str, name: str, cell: str = "1x32") -> Read:
    return lambda figures: times(figures, model, name, cell)


def _median(model: str) -> Read:
    return lambda figures: times(figures, model, "bare", "1x1", "p50")


def _lowest(model: str, cell: str, figure: str) -> Read:
    """Ours divided by the lowest median of the peers, each against ours of its own run."""

    def read(figures: Figures) -> float | None:
        found = {name: pair for name, pair in peers(figures, model).items() if name not in LEAST}
        ratios = [pair["modelyard"][cell][figure] / pair[name][cell]["p50"] for name, pair in found.items()]
        return max(ratios, default=None)

    return read


def _cold(figures: Figures) -> float | None:
    found = figures.get("cold")
    return found["worker"]["cold"]["s"] / found["import"]["cold"]["s"] if found else None


def _log(figures: Figures) -> float | None:
    found = figures.get("log")
    return found["share"]["1x32"]["rate"] if found else None


def _log_cpu(figures: Figures) -> float | None:
    found = figures.get("log")
    return found["share"]["1x32"]["cpu"] if found else None


def _switch(figures: Figures, figure: str) -> float | None:
    cell = figures["switch"]["modelyard"]["switch"] if "switch" in figures else None
    if cell is None:
        return None
    return cell["failed"] if figure == "failed" else cell["p99 near"] / cell["p99 away"]


def _memory(figures: Figures) -> float | None:
    return figures["memory"]["modelyard"]["memory"]["after more load"] if "memory" in figures else None


FLOORS: list[tuple[str, str, float, Read]] = [
    *(
        (f"{model}, 1 row, 32 connections, requests/s over {SHOWN[name]}", "at least", least, _least(model, name))
        for model in ("logistic", "boosting")
        for name, least in (
            ("bare-batched", 0.7), ("mlflow", 100), ("bentoml", 50), ("mlserver", 8), ("litserve", 8), ("ray", 100),
        )
    ),
    ("logistic, 1 row, 1 connection, requests/s over mlflow", "at least", 15, _least("logistic", "mlflow", "1x1")),
    ("boosting, 1 row, 1 connection, requests/s over mlflow", "at least", 6, _least("boosting", "mlflow", "1x1")),
    ("boosting by ONNX, 1 row, 1 connection, rate over mlflow", "at least", 40, _least("twin", "mlflow", "1x1")),
    ("logistic, 100 rows, requests/s over the bare handler", "at least", 0.6, _least("logistic", "bare", "100x32")),
    ("boosting, 100 rows, requests/s over the bare handler", "at least", 0.6, _least("boosting", "bare", "100x32")),
    ("logistic, median at 1 connection over the bare handler's", "at most", 1.5, _median("logistic")),
    ("boosting, median at 1 connection over the bare handler's", "at most", 1.5, _median("boosting")),
    ("logistic, median at 1 connection over the peers' lowest", "at most", 1, _lowest("logistic", "1x1", "p50")),
    ("boosting, median at 1 connection over the peers' lowest", "at most", 1, _lowest("boosting", "1x1", "p50")),
    ("logistic, p99 at 32 connections over the lowest median", "at most", 1, _lowest("logistic", "1x32", "p99")),
    ("boosting, p99 at 32 connections over the lowest median", "at most", 1, _lowest("boosting", "1x32", "p99")),
    ("prediction log, share of the requests/s", "at most", 0.03, _log),
    ("prediction log, share of the CPU", "at most", 0.03, _log_cpu),
    ("start of a worker over importing the model's libraries", "at most", 1.2, _cold),
    ("switch of versions, failed requests", "at most", 0, lambda figures: _switch(figures, "failed")),
    ("switch of versions, p99 around it over p99 away", "at most", 2, lambda figures: _switch(figures, "p99")),
    ("memory of the gateway, MB", "at most", 80, _memory),
]  # fmt: skip


def _floors(figures: Figures) -> str:
    lines = ["| floor | wanted | measured | met |", "|---|---|---|---|"]
    for text, side, bound, read in FLOORS:
        found = read(figures)
        if found is None:
            lines.append(f"| {text} | {side} {bound:g} | not measured | - |")
            continue
        met = found >= bound if side == "at least" else found <= bound
        lines.append(f"| {text} | {side} {bound:g} | {found:.3g} | {'yes' if met else '**no**'} |")
    return "\n".join(lines)


def write(file: Path, text: str) -> None:
    """Put the tables between the marks of a page."""
    head, _, rest = file.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    file.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")
