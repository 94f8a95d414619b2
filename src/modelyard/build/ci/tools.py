"""The project's own tools, run when it configures them: ruff or flake8, pyright or mypy, pytest."""

import json
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import Case, Finding, Outcome, Severity, skipped

TOOL_TIMEOUT_S = 1800.0
FLAKE8_LINE = re.compile(r"^(?P<file>.+?):(?P<line>\d+):\d+: (?P<code>\w+) (?P<text>.*)$")
NO_TESTS_COLLECTED = 5


def lint(context: Context) -> Outcome:
    """Findings of ruff or flake8, whichever the project configures."""
    if _configured(context.folder, "ruff", "ruff.toml", ".ruff.toml"):
        done = _run(context, "ruff", "check", "--output-format", "json", ".")
        return _outcome("ruff", done, lambda: [_ruff(item, context.folder) for item in json.loads(done.stdout)])
    if _configured(context.folder, "flake8", ".flake8"):
        done = _run(context, "flake8", ".")
        return _outcome("flake8", done, lambda: _flake8(done.stdout))
    return skipped("the project configures no linter (ruff, flake8)")


def types(context: Context) -> Outcome:
    """Findings of pyright or mypy, whichever the project configures."""
    if _configured(context.folder, "pyright", "pyrightconfig.json"):
        done = _run(context, "pyright", "--outputjson")
        return _outcome("pyright", done, lambda: _pyright(json.loads(done.stdout), context.folder))
    if _configured(context.folder, "mypy", "mypy.ini", ".mypy.ini"):
        done = _run(context, "mypy", "--output", "json", ".")
        return _outcome("mypy", done, lambda: [_mypy(json.loads(line)) for line in done.stdout.splitlines() if line])
    return skipped("the project configures no type checker (pyright, mypy)")


def unit_tests(context: Context) -> Outcome:
    """The project's tests, by pytest."""
    named = [path for path in context.python_files() if path.name.startswith("test_") or path.stem.endswith("_test")]
    if not named:
        return skipped("the project has no test_*.py")
    report = context.scratch / "pytest.xml"
    done = _run(context, "pytest", "-q", f"--junitxml={report}", "--rootdir", ".", *map(str, named))
    if done.returncode == NO_TESTS_COLLECTED:
        return skipped("pytest found no test")
    if not report.exists():
        return _broken("pytest", done)
    cases = [_case(item) for item in ET.parse(report).iter("testcase")]
    findings = [_test_finding(case) for case in cases if case.failure is not None]
    if done.returncode != 0 and not findings:
        return _broken("pytest", done)
    passed = sum(case.failure is None and not case.skipped for case in cases)
    return Outcome(f"{passed} of {len(cases)} tests passed", findings, cases)


def _configured(folder: Path, tool: str, *files: str) -> bool:
    if any((folder / file).exists() for file in files):
        return True
    try:
        held = tomllib.loads((folder / "pyproject.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return False
    return tool in held.get("tool", {})


def _run(context: Context, tool: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", tool, *arguments]
    try:
        return subprocess.run(
            command, cwd=context.folder, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"{tool} took longer than {TOOL_TIMEOUT_S:g} s")


def _outcome(tool: str, done: "subprocess.CompletedProcess[str]", read: Any) -> Outcome:
    try:
        findings: list[Finding] = read() if done.stdout.strip() else []
    except (ValueError, KeyError):
        return _broken(tool, done)
    if done.returncode != 0 and not findings:
        return _broken(tool, done)
    return Outcome(f"{tool}: {len(findings)} findings" if findings else f"{tool}: clean", findings)


def _broken(tool: str, done: "subprocess.CompletedProcess[str]") -> Outcome:
    if find_spec(tool) is None:
        message, remedy = f"The project configures {tool}, which is not installed.", f"pip install {tool}"
        return Outcome(f"{tool} is not installed", [Finding("missing-tool", Severity.ERROR, message, remedy)])
    words = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it said nothing"]
    message = f"{tool} ended with exit code {done.returncode}: {words[-1]}"
    remedy = f"Run it by hand: python -m {tool}"
    return Outcome(f"{tool} did not run", [Finding("broken-tool", Severity.ERROR, message, remedy)])


def _relative(file: str, folder: Path) -> str:
    path = Path(file)
    return path.relative_to(folder.resolve()).as_posix() if path.is_relative_to(folder.resolve()) else file


def _ruff(item: dict[str, Any], folder: Path) -> Finding:
    fixable = (
        "ruff check --fix mends it." if item.get("fix") else f"See {item.get('url') or 'ruff rule ' + item['code']}."
    )
    place = _relative(item["filename"], folder), item["location"]["row"]
    return Finding(item["code"] or "syntax", Severity.ERROR, item["message"], fixable, *place)


def _flake8(text: str) -> list[Finding]:
    found = [match for line in text.splitlines() if (match := FLAKE8_LINE.match(line))]
    return [
        Finding(m["code"], Severity.ERROR, m["text"], "Mend the line.", m["file"].removeprefix("./"), int(m["line"]))
        for m in found
    ]


def _pyright(answer: dict[str, Any], folder: Path) -> list[Finding]:
    levels = {"error": Severity.ERROR, "warning": Severity.WARNING}
    return [
        Finding(
            item.get("rule", "pyright"),
            levels.get(item["severity"], Severity.NOTE),
            item["message"].replace("\n", " "),
            "Correct the type, or the annotation.",
            _relative(item["file"], folder),
            item["range"]["start"]["line"] + 1,
        )
        for item in answer["generalDiagnostics"]
    ]


def _mypy(item: dict[str, Any]) -> Finding:
    level = Severity.ERROR if item["severity"] == "error" else Severity.NOTE
    remedy = item.get("hint") or "Correct the type, or the annotation."
    return Finding(item.get("code") or "mypy", level, item["message"], remedy, item["file"], item["line"])


def _case(item: ET.Element) -> Case:
    name = f"{item.get('classname', '')}.{item.get('name', '')}".strip(".")
    failed = next((child for child in item if child.tag in ("failure", "error")), None)
    words = None if failed is None else _words(failed)
    return Case(name, float(item.get("time", "0")), words, any(child.tag == "skipped" for child in item))


def _words(failed: ET.Element) -> str:
    """What failed: the message, or the last error line of the trace for a file that could not be collected."""
    lines = [line[1:].strip() for line in (failed.text or "").splitlines() if line.startswith("E ")]
    message = (failed.get("message") or "failed").strip()
    return lines[-1] if lines and failed.tag == "error" else message


def _test_finding(case: Case) -> Finding:
    first = (case.failure or "").splitlines()[0] if case.failure else ""
    module, _, test = case.name.rpartition(".")
    remedy = f"Run it alone: pytest -k {test}"
    file = f"{(module or test).replace('.', '/')}.py"
    return Finding("test-failed", Severity.ERROR, f"{test}: {first}", remedy, file)
