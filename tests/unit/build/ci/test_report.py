"""The reports: what the pull request, the test view and code scanning are given."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard.build.ci import formats, report
from modelyard.build.ci.comparison import metric_rows
from modelyard.build.ci.context import Champion, Context
from modelyard.build.ci.findings import Case, CheckResult, Finding, Outcome, Severity, skipped, verdict
from modelyard.build.ci.rehearsal import Rehearsal, StepNote


def result(name: str, outcome: Outcome) -> CheckResult:
    return CheckResult(name, name.title(), verdict(outcome), 1.25, outcome)


LEAK = Finding("secret", Severity.ERROR, "This looks like a secret | <key>.", "Revoke it.", "a.py", 3)
RESULTS = [
    result("secrets", Outcome("1 found", [LEAK])),
    result("tests", Outcome("1 of 2 tests passed", [], [Case("a", 0.5), Case("b", 0.1, "line one\x00\nline two")])),
    result("lint", skipped("no linter")),
]
EVALUATION: dict[str, Any] = {
    "metrics": {"roc_auc": 0.75, "brier": 0.20, "accuracy": 0.7, "log_loss": 0.5, "latency_p50_ms": 1.0},
    "standard_errors": {"accuracy": 0.01},
    "champion": {
        "version": 2,
        "metrics": {"roc_auc": 0.70, "brier": 0.18, "accuracy": 0.69, "log_loss": 0.51},
        "standard_errors": {"accuracy": 0.01},
        "difference": {
            "roc_auc": {"value": 0.05, "low": 0.02, "high": 0.08},
            "brier": {"value": 0.02, "low": 0.01, "high": 0.03},
        },
    },
}


def with_champion(context: Callable[..., Context], **options: Any) -> Context:
    made = context(champions={"late": Champion(2, {}, Path(), Path("reference"))}, champions_known=True, **options)
    made.rehearsals["pipeline.py:main"] = Rehearsal(
        "pipeline.py:main",
        seconds=2.0,
        cpu_seconds=3600.0,
        steps={"load": StepNote("finished", 1.5), "fit <1>": StepNote("finished", 0.5)},
        registered={"late": {"evaluation": EVALUATION}},
        references={"late": "current"},
    )
    return made


def test_a_difference_is_judged_by_its_interval_and_the_metrics_direction(context: Callable[..., Context]):
    rows = {row.metric: row.verdict for row in metric_rows(with_champion(context), "late")}
    assert rows == {
        "roc_auc": "better",
        "brier": "worse",
        "accuracy": "within noise",
        "log_loss": "noise unknown",
        "latency_p50_ms": "",
    }


def test_the_report_shows_verdicts_findings_metrics_drift_and_cost(
    small: Path, tmp_path: Path, context: Callable[..., Context]
):
    with (small / "modelyard.toml").open("a") as stream:
        stream.write("\n[ci]\ncpu_hour_price = 0.05\n")
    drifted = [
        {"name": "x", "effect": 0.4, "threshold": 0.1, "drifted": True},
        {"name": "z", "effect": 0.0, "threshold": 0.1, "drifted": False},
    ]
    made = with_champion(context, drift=lambda before, after: drifted)
    path = report.write(made, RESULTS, tmp_path / "out", embed=False)
    text = path.read_text()
    assert text.startswith(report.MARKER)
    assert "1 of 3 checks failed" in text
    assert "**error** (secrets) `a.py:3` This looks like a secret | <key>. *Revoke it.*" in text
    assert "| roc_auc | 0.7500 | 0.7000 | +0.0500 (+0.0200 to +0.0800) | **▲ better** |" in text
    assert "1 of 2 columns drifted" in text
    assert "about 0.0500 at the declared price" in text
    for name in ("late-differences", "times"):
        assert f"(plots/{name}.svg)" in text
        ET.parse(tmp_path / "out" / "plots" / f"{name}.svg")


def test_embedded_plots_need_no_other_file(tmp_path: Path, context: Callable[..., Context]):
    path = report.write(with_champion(context), RESULTS, tmp_path / "out", embed=True)
    assert "(data:image/svg+xml;base64," in path.read_text()
    assert [found.name for found in (tmp_path / "out").iterdir()] == ["report.md"]


def test_junit_counts_and_survives_characters_that_xml_forbids():
    root = ET.fromstring(formats.junit(RESULTS))
    counts = {suite.get("name"): (suite.get("tests"), suite.get("failures"), suite.get("skipped")) for suite in root}
    assert counts == {"secrets": ("1", "1", "0"), "tests": ("2", "1", "0"), "lint": ("1", "0", "1")}
    assert "line two" in (root.find(".//testsuite[@name='tests']//failure").text or "")


def test_sarif_names_rule_place_and_remedy():
    body = json.loads(formats.sarif(RESULTS, "1.0"))
    assert body["version"] == "2.1.0"
    (run,) = body["runs"]
    (found,) = run["results"]
    assert run["tool"]["driver"]["rules"][found["ruleIndex"]]["id"] == found["ruleId"] == "secrets/secret"
    assert found["locations"][0]["physicalLocation"]["region"] == {"startLine": 3}
    assert found["level"] == "error"
    assert "Revoke it." in found["message"]["text"]
