"""Licences and known-bad releases of what the project installs, read from installed metadata: no network."""

import re
import tomllib
from collections.abc import Sequence
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any

from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import Finding, Outcome, Severity
from modelyard.domain.errors import ConfigError, MissingExtra

KNOWN_BAD = Path(__file__).with_name("known_bad.toml")


def check(context: Context) -> Outcome:
    """No installed dependency has a denied licence or is a release known to be malicious or vulnerable."""
    wanted = _declared(context.folder)
    installed = _closure(wanted) if wanted else _everything()
    allowed = context.project.ci.allow_packages
    bad = known_bad(context.project.ci.known_bad)
    findings: list[Finding] = []
    for name, found in sorted(installed.items()):
        if any(fnmatch(name, pattern) for pattern in allowed):
            continue
        findings += _licence_findings(name, found, context.project.ci.deny_licences)
        findings += _bad_findings(name, found.version, bad.get(name, []))
    missing = [name for name in wanted if name not in installed]
    for name in missing:
        message = f"{name} is declared and not installed here, so it was not checked."
        findings.append(Finding("not-installed", Severity.WARNING, message, f"pip install {name}"))
    scope = "declared and what they need" if wanted else "everything installed"
    return Outcome(f"{len(installed)} packages ({scope})", findings, details={"packages": len(installed)})


def known_bad(extra: list[str]) -> dict[str, list[dict[str, str]]]:
    """By package: {versions, why, source}; the shipped list and the project's own such as `lib<2`."""
    found: dict[str, list[dict[str, str]]] = {}
    for entry in tomllib.loads(KNOWN_BAD.read_text())["release"]:
        found.setdefault(entry["package"], []).append(entry)
    for text in extra:
        requirement = _requirement(text)
        if requirement is None:
            raise ConfigError(
                f"modelyard.toml: ci.known_bad holds {text!r}, which is no requirement.",
                remedy="Write such as 'lib<2' or 'lib==1.4.1'.",
            )
        entry = {"versions": str(requirement.specifier), "why": "named in ci.known_bad", "source": "modelyard.toml"}
        found.setdefault(canonical(requirement.name), []).append(entry)
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(found: metadata.Distribution) -> str:
    """What a distribution says of its licence: SPDX expression, classifier, or the first line of its text."""
    said = found.metadata
    if "License-Expression" in said:
        return said["License-Expression"]
    classifiers = [value.rpartition(" :: ")[2] for value in said.get_all("Classifier") or [] if "License ::" in value]
    named = [value for value in classifiers if value != "OSI Approved"]
    if named:
        return "; ".join(named)
    text = said["License"].strip() if "License" in said else ""
    return text.splitlines()[0][:100] if text else ""


def denied_by(licence: str, denied: Sequence[str]) -> str | None:
    """The rule that a licence breaks; of alternatives (`A OR B`) every one must break a rule."""
    hits: list[str | None] = []
    for alternative in re.split(r"\bOR\b", licence):
        words = re.split(r"[^A-Za-z0-9.+-]+", alternative)
        hits.append(next((rule for rule in denied if any(fnmatch(w.lower(), rule.lower()) for w in words)), None))
    return hits[0] if all(hits) else None


def _licence_findings(name: str, found: metadata.Distribution, denied: Sequence[str]) -> list[Finding]:
    licence = licence_of(found)
    if not licence:
        message = f"{name} {found.version} does not say its licence."
        remedy = f"Look it up, then let it through: [ci] allow_packages = ['{name}']"
        return [Finding("licence-unknown", Severity.NOTE, message, remedy)]
    hit = denied_by(licence, denied)
    if hit is None:
        return []
    message = f"{name} {found.version} is licensed {licence!r}, which ci.deny_licences ({hit}) does not take."
    remedy = f"Replace it, or let it through knowingly: [ci] allow_packages = ['{name}']"
    return [Finding("licence-denied", Severity.ERROR, message, remedy)]


def _bad_findings(name: str, version: str, entries: list[dict[str, str]]) -> list[Finding]:
    findings: list[Finding] = []
    for entry in entries:
        requirement = _requirement(f"{name}{entry['versions']}")
        if requirement is not None and requirement.specifier.contains(version, prereleases=True):
            message = f"{name} {version}: {entry['why']} ({entry['source']})."
            fixed = entry.get("fixed")
            remedy = f"Install {name}>={fixed}" if fixed else f"Remove this release of {name} and rotate what it saw."
            findings.append(Finding("known-bad-release", Severity.ERROR, message, remedy))
    return findings


def _requirement(text: str) -> Any:
    """The parsed requirement; None when it is not one."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement  # late: only this check needs it
    except ModuleNotFoundError as error:
        raise MissingExtra("packaging", "build", "The check of dependencies") from error
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _declared(folder: Path) -> list[str]:
    """The packages that the project names in requirements*.txt and pyproject.toml."""
    lines: list[str] = []
    for file in sorted(folder.glob("requirements*.txt")):
        lines += file.read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        held = tomllib.loads((folder / "pyproject.toml").read_text()).get("project", {})
    except (OSError, tomllib.TOMLDecodeError):
        held = {}
    lines += held.get("dependencies", [])
    named: list[str] = []
    for line in lines:
        text = line.partition("#")[0].partition(";")[0].strip()
        requirement = _requirement(text) if text and not text.startswith("-") else None
        if requirement is not None:
            named.append(canonical(requirement.name))
    return sorted(set(named))


def _everything() -> dict[str, metadata.Distribution]:
    return {canonical(found.metadata["Name"]): found for found in metadata.distributions() if found.metadata["Name"]}


def _closure(named: list[str]) -> dict[str, metadata.Distribution]:
    """The named packages and all that they need here, as far as it is installed."""
    held, found, pending = _everything(), dict[str, metadata.Distribution](), list(named)
    while pending:
        name = pending.pop()
        if name in found or name not in held:
            continue
        found[name] = held[name]
        for text in held[name].requires or []:
            requirement = _requirement(text)
            if requirement is not None and (not requirement.marker or requirement.marker.evaluate({"extra": ""})):
                pending.append(canonical(requirement.name))
    return found
