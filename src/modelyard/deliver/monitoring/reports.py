"""A comparison as one HTML file that needs nothing else, and as JUnit for CI."""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from modelyard.deliver.monitoring import drawings
from modelyard.deliver.monitoring.drift import ColumnDrift

if TYPE_CHECKING:
    from modelyard.deliver.monitoring.comparison import Comparison

MOST_PICTURES = 60
"""Pictures are drawn for the columns that moved most, so that a report of a thousand columns stays small."""
STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--paper:#fff;--line:#d9dee5;--bad:#b42318;--good:#1a7f4b}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--paper:#11161d;--line:#2b3440;--bad:#ff8a7a;
--good:#6bd39b}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:72rem;margin:2rem auto;
padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
td,th{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums}.soft{color:var(--soft)}.bad{color:var(--bad);font-weight:600}
.good{color:var(--good);font-weight:600}
"""


def html(comparison: "Comparison") -> str:
    """The report as HTML without scripts: verdict, findings, columns with pictures, what the thresholds mean."""
    state = "good" if comparison.passed else "bad"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Data comparison: {escape(comparison.verdict)}</title><style>{STYLE}</style>",
        f"<h1>Data comparison: <span class={state}>{'passed' if comparison.passed else 'failed'}</span></h1>",
        f"<p>{escape(comparison.verdict)}; {comparison.current_rows:,} rows against {comparison.reference_rows:,} of "
        f"the reference.</p><p class=soft>{escape(meaning(comparison))}</p>",
        *_labelled(comparison),
        *_findings(comparison),
        *_joint(comparison),
        "<h2>Columns</h2><table><thead><tr><th>column<th>before (grey) and after (blue)<th class=n>effect"
        "<th class=n>threshold<th class=n>PSI<th class=n>p-value<th class=n>importance<th>what moved</thead><tbody>",
        *(_row(comparison, column, index) for index, column in enumerate(comparison.columns)),
        "</tbody></table><p class=soft>effect: Wasserstein-1 distance in standard deviations of the reference for "
        "numbers, Jensen-Shannon distance for categories.</p>",
    ]
    return "".join(parts)


def meaning(comparison: "Comparison") -> str:
    """What the thresholds stand for, in one sentence."""
    if comparison.calibrated:
        return (
            f"Thresholds were learnt from {comparison.windows} windows of the reference as long as this one; on "
            f"unchanged data any column alarms in about {comparison.table_rate:.1%} of the windows."
        )
    return (
        "Uncalibrated: the reference has too few windows of this length to learn thresholds from. A column counts as "
        f"drifted when its effect is at least 0.05 and significant (chance of any false alarm "
        f"{comparison.table_rate:.0%} if rows are independent of each other)."
    )


def _labelled(comparison: "Comparison") -> list[str]:
    """The newest labelled window's metrics, whole and in parts, each with its 95% interval."""
    held = comparison.labelled
    if held is None:
        return []
    rows = [_metric_row("all", held.get("rows", 0), held["intervals"])] if held.get("intervals") else []
    for part in held.get("parts", []):
        rows.append(_metric_row(f"{part['by']} {part['value']}", part["rows"], part["metrics"]))
    head = "<table><thead><tr><th>rows of<th class=n>rows<th>metrics with 95% intervals</thead><tbody>"
    return [f"<h2>Model quality</h2><p>{escape(held['title'])}</p>{head}", *rows, "</tbody></table>"]


def _metric_row(name: str, rows: int, metrics: Mapping[str, Mapping[str, float]]) -> str:
    told = [
        f"{escape(metric)} {held['value']:.3g} <span class=soft>({held['low']:.3g} to {held['high']:.3g})</span>"
        for metric, held in metrics.items()
    ]
    return f"<tr><td>{escape(name)}<td class=n>{rows:,}<td>{', '.join(told)}"


def _findings(comparison: "Comparison") -> list[str]:
    if not comparison.findings:
        return []
    rows = [
        f"<tr><td>{escape(finding.column or 'table')}<td>{escape(finding.check)}<td>{escape(finding.message)}"
        for finding in comparison.findings
    ]
    return ["<h2>Data quality</h2><table><thead><tr><th>column<th>check<th>found</thead><tbody>", *rows, "</table>"]


def _joint(comparison: "Comparison") -> list[str]:
    joint = comparison.joint
    if joint is None:
        return []
    explained = ", ".join(f"{escape(item['column'])} ({item['importance']:.2f})" for item in joint["columns"])
    return [
        f"<h2>Joint drift</h2><p>A classifier tells current from reference rows with AUC {joint['auc']:.3f} "
        f"(95% interval {joint['low']:.3f} to {joint['high']:.3f}; 0.5 is no difference). By: {explained or '-'}.</p>"
    ]


def _row(comparison: "Comparison", column: ColumnDrift, index: int) -> str:
    picture = ""
    if index < MOST_PICTURES and comparison.reference is not None and comparison.sketch is not None:
        picture = drawings.column(comparison.reference, comparison.sketch, column.name)
    importance = "-" if column.importance is None else f"{column.importance:.2f}"
    mark = " class=bad" if column.drifted else ""
    return (
        f"<tr><td{mark}>{escape(column.name)}<br><span class=soft>{escape(column.kind)}</span><td>{picture}"
        f"<td class=n>{column.effect:.3f}<td class=n>{column.threshold:.3f}<td class=n>{column.psi:.3f}"
        f"<td class=n>{column.p_value:.2g}<td class=n>{importance}<td>{escape(column.moved)}"
    )


def junit(comparison: "Comparison") -> str:
    """JUnit XML: one test case a column and a data quality check, failures with the numbers."""
    failed = comparison.drifted if not comparison.passed and comparison.share >= comparison.columns_share else []
    cases: list[str] = []
    for column in comparison.columns:
        name = escape(column.name, quote=True)
        said = escape(f"{column.test} {column.effect:.4f} > {column.threshold:.4f}; {column.moved}", quote=True)
        body = f"<failure message='{said}'/>" if column.name in failed else ""
        cases.append(f"<testcase classname='drift' name='{name}'>{body}</testcase>")
    for finding in comparison.failures:
        name = escape(f"{finding.column} {finding.check}", quote=True)
        said = escape(finding.message, quote=True)
        cases.append(f"<testcase classname='data_quality' name='{name}'><failure message='{said}'/></testcase>")
    failures = len(failed) + len(comparison.failures)
    return (
        "<?xml version='1.0' encoding='UTF-8'?>\n"
        f"<testsuite name='modelyard.compare_data' tests='{len(cases)}' failures='{failures}' errors='0'>"
        f"{''.join(cases)}</testsuite>\n"
    )
