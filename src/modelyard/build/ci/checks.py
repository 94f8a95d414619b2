"""The checks in their order, and what running them gives."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from modelyard.build.ci import contracts, dependencies, pipeline_checks, project_file, secrets, tools
from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import CheckResult, Finding, Outcome, Severity, Verdict, verdict
from modelyard.domain.errors import Invalid, ModelyardError


@dataclass(frozen=True)
class Check:
    """A named check; `look` raises ModelyardError or OSError only when it cannot look at all."""

    name: str
    title: str
    look: Callable[[Context], Outcome]


CHECKS = (
    Check("project", "Project file", project_file.check),
    Check("lint", "Lint", tools.lint),
    Check("types", "Types", tools.types),
    Check("tests", "Unit tests", tools.unit_tests),
    Check("dependencies", "Licences and known-bad releases", dependencies.check),
    Check("secrets", "Secrets in the tree", secrets.check),
    Check("sample", "Run of every pipeline", pipeline_checks.sample_run),
    Check("contracts", "Data contracts", contracts.check),
    Check("reproducible", "Reproducibility", pipeline_checks.reproducibility),
    Check("gates", "Gates against the champion", pipeline_checks.gate_check),
)


def chosen(only: tuple[str, ...], skip: tuple[str, ...]) -> list[Check]:
    """The checks to run. Raises Invalid for a name that there is not."""
    known = [check.name for check in CHECKS]
    for name in (*only, *skip):
        if name not in known:
            raise Invalid(f"There is no check {name!r}.", remedy=f"Checks: {', '.join(known)}.")
    return [check for check in CHECKS if (not only or check.name in only) and check.name not in skip]


def run(check: Check, context: Context) -> CheckResult:
    """The check's result; an error that keeps it from looking is a finding too."""
    started = time.perf_counter()
    try:
        outcome = check.look(context)
    except ModelyardError as error:
        outcome = Outcome("could not look", [Finding(error.code, Severity.ERROR, error.message, error.remedy)])
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        message = f"The check could not look: {error.strerror or error}{where}."
        found = Finding("io", Severity.ERROR, message, "Check the path, its rights and free space.")
        outcome = Outcome("could not look", [found])
    return CheckResult(check.name, check.title, verdict(outcome), time.perf_counter() - started, outcome)


def failed(results: list[CheckResult]) -> list[CheckResult]:
    return [result for result in results if result.verdict is Verdict.FAILED]
