"""The tables of bench_pipelines: engines beside plain Python, our own lines with their floors, met or not."""

from typing import Any

from pipeline_engines import OURS, PLAIN, SERVED, TRACKED

SCENARIOS = {"chain": "10 chained steps", "fan": "fan-out of 50", "train": "training, 200,000 x 20 rows"}
FLOORS = {
    (OURS, "chain"): 4.0,
    (OURS, "fan"): 4.0,
    (TRACKED, "chain"): 6.0,
    (TRACKED, "fan"): 6.0,
    (SERVED, "chain"): 6.0,
    (TRACKED, "train"): 1.15,
}
"""Most CPU, in times that of the plain script in the same run."""
SECOND_S = 0.4
"""Most seconds of a second run whose every step is cached."""
LIMITS = {
    "a step in process, ms of CPU": ("at most", 3.0),
    "a step in a warm worker, ms of CPU": ("at most", 15.0),
    "10,000 steps planned, s": ("at most", 2.0),
    "1 GB frame between steps, share of disk speed": ("at least", 0.7),
    "Ray, steps over bare tasks": ("at most", 1.2),
}


def engines_table(engines: dict[str, dict[str, Any]]) -> str:
    """Whole fresh processes: CPU and seconds with their ratio to plain Python, and the second run."""
    lines = ["| engine | " + " | ".join(f"{each}: CPU | wall" for each in SCENARIOS.values()) + " | second run |"]
    lines.append("|---" * (2 * len(SCENARIOS) + 2) + "|")
    for engine, found in engines.items():
        cells = [cell for scenario in SCENARIOS for cell in _cells(found.get(scenario))]
        lines.append(f"| {found.get('release', engine)} | {' | '.join(cells)} | {_second(engine, found)} |")
    return "\n".join(lines)


def _cells(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return ["", ""]
    if "failed" in found:
        return [f"failed: {found['failed']}", ""]
    return [f"{found[what]:.2f} s ({found[what] / found['plain ' + what]:.2f}x)" for what in ("cpu", "wall")]


def _second(engine: str, found: dict[str, Any]) -> str:
    if engine == PLAIN or "cpu" not in found.get("train", {}):
        return ""
    taken = found["train"].get("again wall")
    return "runs it again" if taken is None else f"{taken:.2f} s"


def floors_table(engines: dict[str, dict[str, Any]], lines: dict[str, float]) -> str:
    rows = ["| | measured | floor | met |", "|---|---|---|---|"]
    for (engine, scenario), most in FLOORS.items():
        found = engines.get(engine, {}).get(scenario, {})
        value = found["cpu"] / found["plain cpu"] if "cpu" in found else None
        rows.append(_row(f"{engine}: {SCENARIOS[scenario]}, CPU in times plain", value, "at most", most))
    for engine in (OURS, TRACKED):
        again = engines.get(engine, {}).get("train", {}).get("again wall")
        rows.append(_row(f"{engine}: second run of the training, all cached, s", again, "at most", SECOND_S))
    for name, value in lines.items():
        way, limit = LIMITS.get(name, ("", 0.0))
        rows.append(_row(name, value, way, limit))
    return "\n".join(rows)


def _row(name: str, value: float | None, way: str, limit: float) -> str:
    if value is None:
        return f"| {name} | not measured | {way} {limit:g} | |"
    if not way:
        return f"| {name} | {value:,.2f} | | |"
    met = value <= limit if way == "at most" else value >= limit
    return f"| {name} | {value:,.2f} | {way} {limit:g} | {'yes' if met else '**no**'} |"
