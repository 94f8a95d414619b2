"""A simulation's outcome in words, as a table, and as one HTML file."""

from html import escape
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.monitoring.metrics import worse_by
from modelyard.deliver.monitoring.reports import STYLE
from modelyard.deliver.monitoring.simulation import STRATEGIES, Outcome
from modelyard.domain.errors import Invalid
from modelyard.kit.files import atomic_write

COLOURS = {"never": "#c2571a", "always": "#8a94a3", "policy": "#1f6feb"}
WIDTH, HEIGHT = 860, 280


def summary(outcome: Outcome) -> list[dict[str, Any]]:
    """One row a strategy: mean and worst quality, retrains, rows trained on, CPU seconds."""
    metric = outcome.plan.metric
    rows: list[dict[str, Any]] = []
    for strategy in STRATEGIES:
        values = [value for step in outcome.steps if (value := step.quality.get(strategy)) is not None]
        worst = max(values, key=lambda value: worse_by(metric, value, 0.0)) if values else None
        rows.append(
            {
                "strategy": strategy,
                f"mean {metric}": outcome.mean(strategy),
                "worst": worst,
                "retrains": outcome.retrains[strategy],
                "rows trained": outcome.rows_trained[strategy],
                "cpu s": outcome.cpu_s[strategy],
            }
        )
    return rows


def conclusion(outcome: Outcome) -> str:
    """What the numbers say, in one sentence; also when retraining did not help."""
    means = {strategy: outcome.mean(strategy) for strategy in STRATEGIES}
    never, always, kept = means["never"], means["always"], means["policy"]
    if never is None or always is None or kept is None:
        return f"{outcome.plan.metric} could not be measured on the windows."
    metric = outcome.plan.metric
    gain, most = worse_by(metric, never, kept), worse_by(metric, never, always)
    said = f"against a model left alone the policy gains {gain:+.4f} {metric}, always retraining {most:+.4f}"
    cost = f" with {outcome.retrains['policy']} retrains instead of {outcome.retrains['always']}"
    if outcome.retrains["policy"] == 0:
        return f"The policy never retrained; {said}."
    if gain <= 0:
        return f"Retraining does not help here: {said}{cost}."
    return said[0].upper() + said[1:] + cost + "."


def save(outcome: Outcome, target: Path, source: str) -> None:
    """Write .html or .json by the suffix. Raises Invalid for another one."""
    if target.suffix == ".json":
        content = msgspec.json.format(msgspec.json.encode(outcome.as_json()), indent=1)
    elif target.suffix == ".html":
        content = html(outcome, source).encode()
    else:
        raise Invalid(f"{target.name} is no kind of report.", remedy="End it with .html or .json.")
    atomic_write(target, content)


def html(outcome: Outcome, source: str) -> str:
    rows = summary(outcome)
    heads = "".join(f"<th class=n>{escape(str(name))}" for name in rows[0] if name != "strategy")
    body = "".join(
        f"<tr><td style='color:{COLOURS[row['strategy']]}'>{row['strategy']}"
        + "".join(f"<td class=n>{_shown(value)}" for name, value in row.items() if name != "strategy")
        for row in rows
    )
    steps = "".join(
        f"<tr><td>{escape(step.at)}"
        + "".join(f"<td class=n>{_shown(step.quality.get(strategy))}" for strategy in STRATEGIES)
        + f"<td>{escape('; '.join(step.alarms))}<td>{escape(step.did)}"
        for step in outcome.steps
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Simulation of {escape(source)}</title><style>{STYLE}</style><h1>Simulation of {escape(source)}</h1>"
        f"<p>{escape(conclusion(outcome))}</p>{chart(outcome)}<table><thead><tr><th>strategy{heads}</thead>"
        f"<tbody>{body}</tbody></table><h2>Window by window</h2><table><thead><tr><th>from<th class=n>never"
        f"<th class=n>always<th class=n>policy<th>alarms<th>what was done</thead><tbody>{steps}</tbody></table>"
    )


def chart(outcome: Outcome) -> str:
    """Quality by window, one line a strategy, as SVG."""
    known = [value for step in outcome.steps for value in step.quality.values() if value is not None]
    if not known:
        return ""
    low, span = min(known), (max(known) - min(known)) or 1.0
    across = WIDTH / max(len(outcome.steps) - 1, 1)
    lines: list[str] = []
    for strategy in STRATEGIES:
        spots = [
            f"{index * across:.1f},{10 + (low + span - value) / span * (HEIGHT - 20):.1f}"
            for index, step in enumerate(outcome.steps)
            if (value := step.quality.get(strategy)) is not None
        ]
        colour = COLOURS[strategy]
        lines.append(f"<polyline points='{' '.join(spots)}' fill=none stroke='{colour}' stroke-width=2 />")
    label = f"{outcome.plan.metric} by window"
    return f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' width='100%' role=img aria-label='{label}'>{''.join(lines)}</svg>"


def _shown(value: Any) -> str:
    return "-" if value is None else (f"{value:.4g}" if isinstance(value, float) else str(value))
