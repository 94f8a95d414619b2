"""The table of bench_tracking: figures by line and server, the floors, and whether they are met."""

import re
from collections.abc import Callable
from dataclasses import dataclass

Figures = dict[str, dict[str, float]]
OURS, MLFLOW = "modelyard", "mlflow"
LEAST = ("bare handler", "plain copy")


def more_is_better(what: str) -> bool:
    return "/s" in what


def ratio(what: str, by: dict[str, float]) -> float | None:
    """How many times better we are than MLflow."""
    if OURS not in by or MLFLOW not in by:
        return None
    return by[OURS] / by[MLFLOW] if more_is_better(what) else by[MLFLOW] / max(by[OURS], 1e-6)


def share(by: dict[str, float]) -> float | None:
    """Our rate as a share of the least that could be done."""
    least = next((by[name] for name in LEAST if name in by), None)
    return by[OURS] / least if least and OURS in by else None


@dataclass(frozen=True)
class Floor:
    """What a line must reach; None where what it is compared with was not measured."""

    text: str
    met: Callable[[str, dict[str, float]], bool | None]


def times(least: float) -> Floor:
    def met(what: str, by: dict[str, float]) -> bool | None:
        found = ratio(what, by)
        return None if found is None else found >= least

    return Floor(f"{least:g} times", met)


def at_most(most: float) -> Floor:
    return Floor(f"at most {most:g}", lambda _, by: by[OURS] <= most if OURS in by else None)


def of_least(least: float) -> Floor:
    def met(_: str, by: dict[str, float]) -> bool | None:
        found = share(by)
        return None if found is None else found >= least

    return Floor(f"{least:.0%} of the least", met)


FLOORS: dict[str, list[Floor]] = {
    r"start until": [at_most(1.5)],
    r"(log_metric|log_param|set_tag|get_run): server CPU": [times(25)],
    r"create and end a run: server CPU": [times(15)],
    r"log_batch of 1,000: metrics/s, the server": [times(25)],
    r"raw log-metric, 32 connections: requests/s": [times(30), of_least(0.5)],
    r"search 10,000 runs, filter and order: p95": [at_most(30), times(20)],
    r"search 10,000 runs, ordered by a metric: p95": [at_most(60), times(20)],
    r"search 10,000 runs, newest first: p95": [times(20)],
    r"search 10,000 runs, page of 1,000: p95": [at_most(150), times(20)],
    r"search 100,000 runs, (filter and order|newest first|ordered by a metric): p95": [at_most(100)],
    r"artifact of .*: MB/s": [of_least(0.7)],
    r"memory .* points": [at_most(150)],
    r"fsyncs a write": [at_most(1)],
    r"PostgreSQL: .*requests/s": [times(5)],
    r"log_model of a tiny model": [at_most(0.5)],
    r"autologged fit beyond the fit": [at_most(1.0)],
}


def floors(what: str) -> list[Floor]:
    return [floor for pattern, found in FLOORS.items() if re.match(pattern, what) for floor in found]


def table(figures: Figures) -> str:
    lines = [
        "| | modelyard | MLflow 3.17.2 | the least | times MLflow | share of the least | floor | met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for what, by in figures.items():
        least = next((by[name] for name in LEAST if name in by), None)
        cells = [f"{value:,.2f}" if value is not None else "" for value in (by.get(OURS), by.get(MLFLOW), least)]
        better, part = ratio(what, by), share(by) if more_is_better(what) else None
        cells += [f"{better:,.1f}" if better else "", f"{part:.0%}" if part else ""]
        wanted = floors(what)
        found = [floor.met(what, by) for floor in wanted]
        answers = ["not measured" if met is None else "yes" if met else "**no**" for met in found]
        cells += ["; ".join(floor.text for floor in wanted), "; ".join(answers)]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)
