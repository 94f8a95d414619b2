"""The results for other programs: JUnit XML for test views, SARIF 2.1.0 for code scanning."""

import json
import re
import xml.etree.ElementTree as ET
from typing import Any
from urllib.parse import quote

from modelyard.build.ci.findings import CheckResult, Finding, Severity, Verdict

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(results: list[CheckResult]) -> bytes:
    """One suite a check; its cases, or one case for the check itself where it has none."""
    root = ET.Element("testsuites", name="modelyard ci", time=f"{sum(result.seconds for result in results):.3f}")
    for result in results:
        suite = ET.SubElement(root, "testsuite", name=result.name, time=f"{result.seconds:.3f}")
        errors = [finding for finding in result.outcome.findings if finding.severity is Severity.ERROR]
        failures = skips = 0
        for case in result.outcome.cases:
            element = _case(suite, result.name, case.name, case.seconds)
            if case.failure is not None:
                failures += 1
                ET.SubElement(element, "failure", message=_clean(case.failure.splitlines()[0])).text = _clean(
                    case.failure
                )
            elif case.skipped:
                skips += 1
                ET.SubElement(element, "skipped")
        if not failures:
            element = _case(suite, result.name, result.title, 0.0 if result.outcome.cases else result.seconds)
            if errors:
                failures += 1
                text = "\n".join(f"{item.place} {item.message} {item.remedy}".strip() for item in errors)
                ET.SubElement(element, "failure", message=_clean(result.outcome.summary)).text = _clean(text)
            elif result.verdict is Verdict.SKIPPED:
                skips += 1
                ET.SubElement(element, "skipped", message=_clean(result.outcome.summary))
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(failures))
        suite.set("skipped", str(skips))
        suite.set("errors", "0")
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def _case(suite: ET.Element, check: str, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=f"modelyard.{check}", name=_clean(name), time=f"{seconds:.3f}")


def _clean(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)


def sarif(results: list[CheckResult], version: str) -> bytes:
    """Every finding as a result of one run of the tool `modelyard ci`."""
    found = [(result.name, item) for result in results for item in result.outcome.findings]
    rules = {f"{check}/{item.rule}": item for check, item in found}
    driver: dict[str, Any] = {
        "name": "modelyard ci",
        "version": version,
        "informationUri": "https://github.com/modelyard/modelyard",
        "rules": [
            {"id": rule, "shortDescription": {"text": rule}, "help": {"text": item.remedy}}
            for rule, item in rules.items()
        ],
    }
    order = list(rules)
    entries = [_result(check, item, order.index(f"{check}/{item.rule}")) for check, item in found]
    body = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": entries}]}
    return json.dumps(body, indent=1).encode()


def _result(check: str, item: Finding, rule: int) -> dict[str, Any]:
    place: dict[str, Any] = {
        "artifactLocation": {"uri": quote(item.file or "modelyard.toml"), "uriBaseId": "%SRCROOT%"}
    }
    if item.line:
        place["region"] = {"startLine": item.line}
    return {
        "ruleId": f"{check}/{item.rule}",
        "ruleIndex": rule,
        "level": LEVELS[item.severity],
        "message": {"text": f"{item.message} {item.remedy}"},
        "locations": [{"physicalLocation": place}],
    }
