"""What checks say: findings, each with what to do about it, and one verdict a check."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """An error fails its check; a warning and a note do not."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Verdict(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One thing that somebody should look at; `file` is relative to the project, `line` counts from 1."""

    rule: str
    severity: Severity
    message: str
    remedy: str
    file: str | None = None
    line: int | None = None

    @property
    def place(self) -> str:
        """`file:line`, as far as it is known; empty otherwise."""
        return ":".join(str(part) for part in (self.file, self.line) if part is not None)


@dataclass(frozen=True)
class Case:
    """One thing that a check looked at, such as one unit test; `failure` is None when it is fine."""

    name: str
    seconds: float = 0.0
    failure: str | None = None
    skipped: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a check found. `skipped` says why it did not look; then nothing else counts."""

    summary: str
    findings: list[Finding] = field(default_factory=list[Finding])
    cases: list[Case] = field(default_factory=list[Case])
    skipped: bool = False
    details: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class CheckResult:
    name: str
    title: str
    verdict: Verdict
    seconds: float
    outcome: Outcome


def skipped(why: str) -> Outcome:
    return Outcome(why, skipped=True)


def verdict(outcome: Outcome) -> Verdict:
    if outcome.skipped:
        return Verdict.SKIPPED
    failed = any(finding.severity is Severity.ERROR for finding in outcome.findings)
    return Verdict.FAILED if failed else Verdict.PASSED
