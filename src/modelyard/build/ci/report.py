"""The report that a pull request shows: Markdown, with its plots beside it."""

import base64
from pathlib import Path

from modelyard.build.ci import plots
from modelyard.build.ci.comparison import MetricRow, cost, drift_rows, metric_rows
from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import CheckResult, Severity, Verdict
from modelyard.kit.files import atomic_write

MARKS = {Verdict.PASSED: "✅ passed", Verdict.FAILED: "❌ failed", Verdict.SKIPPED: "➖ skipped"}
SIGNS = {"better": "▲ better", "worse": "▼ worse", "within noise": "≈ within noise"}
MOST_FINDINGS = 50
MARKER = "<!-- modelyard-ci -->"
"""The first line of the report, by which a workflow finds its own comment again."""


def write(context: Context, results: list[CheckResult], out: Path, embed: bool) -> Path:
    """`report.md` in `out` and its plots in `out/plots`, or inside it as data URIs."""
    images: dict[str, str] = {}
    for name, svg in _plots(context).items():
        if embed:
            images[name] = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
        else:
            atomic_write(out / "plots" / f"{name}.svg", svg.encode(), durable=False)
            images[name] = f"plots/{name}.svg"
    path = out / "report.md"
    atomic_write(path, markdown(context, results, images).encode(), durable=False)
    return path


def markdown(context: Context, results: list[CheckResult], images: dict[str, str]) -> str:
    """The whole report; `images` holds where each plot is."""
    failed = [result for result in results if result.verdict is Verdict.FAILED]
    verdict = f"❌ {len(failed)} of {len(results)} checks failed" if failed else "✅ every check passed"
    lines = [MARKER, f"## {context.project.project.name}: {verdict}", ""]
    lines += ["| check | verdict | what was found | time |", "|---|---|---|---:|"]
    for result in results:
        row = (result.title, MARKS[result.verdict], result.outcome.summary, f"{result.seconds:.1f} s")
        lines.append("| " + " | ".join(_cell(text) for text in row) + " |")
    lines += _findings(results)
    for model in context.project.models:
        lines += _metrics(context, model, images)
        lines += _drift(context, model)
    lines += _cost(context, images)
    return "\n".join(lines) + "\n"


def _findings(results: list[CheckResult]) -> list[str]:
    found = [(result, item) for result in results for item in result.outcome.findings]
    found.sort(key=lambda pair: list(Severity).index(pair[1].severity))
    if not found:
        return []
    lines = ["", "### What to do", ""]
    for result, item in found[:MOST_FINDINGS]:
        place = f" `{item.place}`" if item.place else ""
        lines.append(f"- **{item.severity}** ({result.name}){place} {_line(item.message)} *{_line(item.remedy)}*")
    if len(found) > MOST_FINDINGS:
        lines.append(f"- and {len(found) - MOST_FINDINGS} more, in the SARIF file")
    return lines


def _metrics(context: Context, model: str, images: dict[str, str]) -> list[str]:
    rows = metric_rows(context, model)
    if not rows:
        return []
    champion = context.champions.get(model)
    primary = context.project.models[model].primary_metric
    rows.sort(key=lambda row: (row.metric != primary, row.champion is None, row.metric))
    scope = (
        "on the full data" if context.gates else f"on a sample of {context.sample:g}: an indication, not a verdict"
    )
    lines = ["", f"### {model}", ""]
    if champion is None:
        why = "There is no champion yet" if context.champions_known else "No yard was asked for the champion"
        lines += [f"{why}; measured {scope}.", "", "| metric | candidate |", "|---|---:|"]
        return lines + [f"| {row.metric} | {row.candidate:.4g} |" for row in rows]
    name = f"champion v{champion.version}"
    lines += [f"Candidate and {name} on the same rows, {scope}.", ""]
    lines += [f"| metric | candidate | {name} | difference (95% interval) | verdict |", "|---|---:|---:|---:|---|"]
    lines += [_metric(row) for row in rows]
    if f"{model}-differences" in images:
        lines += ["", f"![differences to the champion]({images[f'{model}-differences']})"]
    return lines


def _metric(row: MetricRow) -> str:
    if row.champion is None or row.difference is None:
        return f"| {row.metric} | {row.candidate:.4g} | - | - | |"
    interval = "" if row.low is None else f" ({row.low:+.4f} to {row.high:+.4f})"
    sign = SIGNS.get(row.verdict, row.verdict)
    shown = f"**{sign}**" if row.verdict in ("better", "worse") else sign
    return f"| {row.metric} | {row.candidate:.4f} | {row.champion:.4f} | {row.difference:+.4f}{interval} | {shown} |"


def _drift(context: Context, model: str) -> list[str]:
    rows = drift_rows(context, model)
    if rows is None:
        return []
    drifted = [row for row in rows if row["drifted"]]
    lines = ["", f"**Data since the champion**: {len(drifted)} of {len(rows)} columns drifted.", ""]
    if drifted:
        lines += ["| column | effect | threshold |", "|---|---:|---:|"]
        lines += [f"| {row['name']} | {row['effect']:.3f} | {row['threshold']:.3f} |" for row in drifted[:15]]
    return lines


def _cost(context: Context, images: dict[str, str]) -> list[str]:
    if not context.rehearsals:
        return []
    spent = cost(context)
    price = "" if spent["price"] is None else f", about {spent['price']:.4f} at the declared price"
    memory = f"{spent['peak_bytes'] / 2**20:.0f} MiB at most"
    lines = ["", "### Time and cost", ""]
    lines.append(f"{spent['seconds']:.1f} s, {spent['cpu_seconds']:.1f} s of CPU, {memory}{price}.")
    if "times" in images:
        lines += ["", f"![seconds by step]({images['times']})"]
    return lines


def _plots(context: Context) -> dict[str, str]:
    found: dict[str, str] = {}
    for model in context.project.models:
        rows = [row for row in metric_rows(context, model) if row.low is not None]
        if rows:
            found[f"{model}-differences"] = plots.differences(rows)
    seconds = {step: note.seconds for run in context.rehearsals.values() for step, note in run.steps.items()}
    if seconds:
        found["times"] = plots.times(seconds)
    return found


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(text.split())
