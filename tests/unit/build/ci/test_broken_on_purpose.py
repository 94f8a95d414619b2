"""`modelyard ci` on projects broken on purpose, one defect at a time: one clear finding, the rest is looked at."""

import json
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.build.ci import checks, report
from modelyard.build.ci.checks import Check
from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import Outcome, Verdict
from tests.unit.build.ci.conftest import LIGHT, run_ci

KEY = "AKIA" + "QWERTYUIOPASDFGH"
VALIDATING = """
import pandas as pd

import modelyard as yard
from modelyard import steps


@yard.pipeline
def main():
    steps.validate(steps.read("rows.csv"), "contract.toml")
"""


def light(folder: Path, seed: str = "1", order: str = "sorted") -> None:
    (folder / "pipeline.py").write_text(LIGHT.format(seed=seed, order=order))
    (folder / "test_it.py").write_text(
        "import pipeline\n\ndef test_names():\n    assert len(pipeline.names()) == 3\n"
    )


def syntax(folder: Path) -> None:
    text = (folder / "pipeline.py").read_text()
    (folder / "pipeline.py").write_text(text.replace("return {", "return return {", 1))


def failing_test(folder: Path) -> None:
    (folder / "test_it.py").write_text("def test_truth():\n    assert 1 == 2\n")


def leak(folder: Path) -> None:
    (folder / "settings.py").write_text(f'KEY = "{KEY}"\n')


def licence(folder: Path) -> None:
    (folder / "requirements.txt").write_text("click\n")
    with (folder / "modelyard.toml").open("a") as stream:
        stream.write("\n[ci]\ndeny_licences = ['BSD*']\n")


def contract(folder: Path) -> None:
    (folder / "pipeline.py").write_text(VALIDATING)
    (folder / "rows.csv").write_text("x\n1\n-3\n")
    (folder / "contract.toml").write_text("[x]\nkind = 'numeric'\nmin = 0.0\n")


def random_step(folder: Path) -> None:
    light(folder, seed="None")


def raising_step(folder: Path) -> None:
    text = (folder / "pipeline.py").read_text()
    (folder / "pipeline.py").write_text(
        text.replace("return random.Random(seed)", "return 1 / 0 + random.Random(seed)")
    )


def raising_pipeline(folder: Path) -> None:
    text = (folder / "pipeline.py").read_text()
    (folder / "pipeline.py").write_text(text.replace("    total(draw(", "    [][3]\n    total(draw("))


def unknown_event(folder: Path) -> None:
    with (folder / "modelyard.toml").open("a") as stream:
        stream.write('\n[pipelines.p]\npipeline = "pipeline.py:main"\non_event = { type = "sun.rose" }\n')


def missed_gate(folder: Path) -> None:
    """The light pipeline registers nothing, so the gates are open."""


DEFECTS: list[tuple[Callable[[Path], None], str, str, str]] = [
    (syntax, "project", "syntax-error", "pipeline.py is not valid Python"),
    (failing_test, "tests", "test-failed", "test_truth"),
    (leak, "secrets", "secret", "AWS"),
    (licence, "dependencies", "licence-denied", "click"),
    (contract, "sample", "run-failed", "'x' < 0: 1 rows"),
    (random_step, "reproducible", "not-reproducible", "'draw'"),
    (raising_step, "sample", "run-failed", "ZeroDivisionError"),
    (raising_pipeline, "sample", "run-failed", "IndexError"),
    (unknown_event, "project", "unknown-event", "sun.rose"),
    (missed_gate, "gates", "no-evaluation", "late"),
]
NEEDS = {"reproducible": ("sample",), "gates": ("sample",)}


@pytest.mark.parametrize(("breaks", "check", "rule", "words"), DEFECTS, ids=[each[0].__name__ for each in DEFECTS])
def test_one_defect_is_one_finding(
    small: Path,
    tmp_path: Path,
    context: Callable[..., Context],
    breaks: Callable[[Path], None],
    check: str,
    rule: str,
    words: str,
) -> None:
    light(small)
    breaks(small)
    made = context(gates=check == "gates")
    wanted = {*NEEDS.get(check, ()), check, "project", "dependencies", "secrets"}
    results = [checks.run(each, made) for each in checks.CHECKS if each.name in wanted]
    (failed,) = checks.failed(results)
    (found,) = failed.outcome.findings
    assert failed.name == check and found.rule == rule and words in found.message and found.remedy, found
    report.write(made, results, tmp_path / "out", embed=False)
    told = (tmp_path / "out" / "report.md").read_text()
    assert failed.title in told and found.remedy.split(":")[0][:40] in told
    assert KEY not in told, "a secret is not told on"


def test_everything_broken_at_once_is_all_told(small: Path) -> None:
    """No check keeps another from looking, and the three reports agree."""
    light(small, seed="None")
    for breaks in (failing_test, leak, licence, unknown_event):
        breaks(small)
    done, answer = run_ci(small)
    assert done.returncode == 1
    failed = {each["name"] for each in answer["checks"] if each["verdict"] == "failed"}
    assert failed == {"project", "tests", "dependencies", "secrets", "reproducible"}
    assert {each["name"] for each in answer["checks"]} == {check.name for check in checks.CHECKS}
    reports = Path(answer["reports"])
    suites = ET.parse(reports / "junit.xml").getroot()
    assert {suite.get("name") for suite in suites if int(suite.get("failures", "0"))} == failed
    rules = {result["ruleId"].split("/")[0] for result in sarif_checked(reports / "modelyard.sarif")}
    assert rules == failed


def sarif_checked(file: Path) -> list[dict[str, Any]]:
    """The results of a SARIF file that keeps what SARIF 2.1.0 requires of the parts that we write.

    No package that we test with carries the published schema, so its rules for these parts are written here.
    """
    held = json.loads(file.read_text())
    assert held["version"] == "2.1.0" and held["$schema"].endswith("sarif-2.1.0.json") and len(held["runs"]) == 1
    run = held["runs"][0]
    driver, results = run["tool"]["driver"], run["results"]
    assert driver["name"] and driver["version"] and driver["informationUri"].startswith("https://")
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(set(ids)) == len(ids), "rules are unique"
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"] and rule["help"]["text"]
    for result in results:
        assert ids[result["ruleIndex"]] == result["ruleId"] and result["message"]["text"]
        assert result["level"] in ("none", "note", "warning", "error")
        for location in result["locations"]:
            place = location["physicalLocation"]
            uri = place["artifactLocation"]["uri"]
            assert uri and " " not in uri and not uri.startswith("/"), "a relative URI"
            assert place.get("region", {"startLine": 1})["startLine"] >= 1
    return results


def test_no_project_file_is_one_clear_line(tmp_path: Path) -> None:
    done, _ = run_ci(tmp_path)
    assert done.returncode == 1 and "There is no modelyard.toml" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_git_every_file_is_looked_at(small: Path) -> None:
    light(small)
    leak(small)
    done, answer = run_ci(small, "--only", "secrets", PATH="/nowhere")
    assert done.returncode == 1 and len(answer["checks"][0]["findings"]) == 1, done.stderr
    subprocess.run(["git", "init", "-q", str(small)], check=True)
    (small / ".gitignore").write_text("settings.py\n")
    assert run_ci(small, "--only", "secrets")[0].returncode == 0


def test_a_check_that_cannot_look_fails_alone(context: Callable[..., Context]) -> None:
    def look(context: Context) -> Outcome:
        raise PermissionError(13, "Permission denied", "data.csv")

    result = checks.run(Check("c", "C", look), context())
    assert result.verdict is Verdict.FAILED and "data.csv" in result.outcome.findings[0].message
