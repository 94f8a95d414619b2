"""Secrets in the tree: keys and passwords that a commit would publish."""

import math
import re
import subprocess
from pathlib import Path

from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import Finding, Outcome, Severity

ALLOW = "modelyard: allow-secret"
"""A line that ends in this comment is let through: an example, a test's fixture."""
LARGEST = 1 << 20
PATTERNS: dict[str, re.Pattern[str]] = {
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    "AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})\b"),
    "GitLab token": re.compile(r"\bgl(?:pat|dt|rt|ptt)-[A-Za-z0-9_-]{20,}\b"),
    "Slack token": re.compile(r"\bxox[abposr]-[A-Za-z0-9-]{10,}\b"),
    "Slack webhook": re.compile(r"https://hooks\.slack\.com/services/T\w+/B\w+/\w{20,}"),
    "Google API key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "Stripe key": re.compile(r"\b[rs]k_live_[0-9A-Za-z]{20,}\b"),
    "Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{34,}\b"),
    "OpenAI or Anthropic key": re.compile(r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}\b"),
    "JSON web token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}\b"),
    "password in a URL": re.compile(
        r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"<>{}$]+:(?P<value>[^\s/@'\"<>{}$]{4,})@[\w.-]+"
    ),
    "assigned secret": re.compile(
        r"(?i)(?:password|passwd|secret|api_?key|auth_?token|access_?token|private_?key)\w*['\"]?\s*[:=]\s*"
        r"['\"](?P<value>[^'\"\s]{8,})['\"]"
    ),
}
PLACEHOLDERS = re.compile(
    r"(?i)example|changeme|placeholder|your[_-]|xxxx|\*\*\*\*|<.*>|\$\{|\{\{|dummy|insecure|test"
)
LEAST_ENTROPY = 3.0
"""Bits a character below which an assigned text is a word rather than a key (English words: 2 to 3)."""


def check(context: Context) -> Outcome:
    """No line of a file that git would commit looks like a key, token or password."""
    findings: list[Finding] = []
    files = tree(context)
    for path in files:
        findings += _scan(context.folder, path)
    summary = f"{len(files)} files, {len(findings)} findings" if findings else f"{len(files)} files, none found"
    return Outcome(summary, findings)


def tree(context: Context) -> list[Path]:
    """What a commit of the project would hold: tracked and untracked files that git does not ignore; every file
    outside git.
    """
    command = ["git", "-C", str(context.folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return context.files()
    if done.returncode != 0:
        return context.files()
    named = [Path(name) for name in done.stdout.split("\0") if name]
    return sorted({path for path in named if (context.folder / path).is_file() and path.parts[0] != ".modelyard"})


def _scan(folder: Path, path: Path) -> list[Finding]:
    file = folder / path
    if file.stat().st_size > LARGEST:
        return []
    data = file.read_bytes()
    if b"\0" in data[:8192]:
        return []
    findings: list[Finding] = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        kind = None if ALLOW in line else secret_in(line)
        if kind is not None:
            remedy = f"Revoke it, read it from the environment instead, or mark an example: # {ALLOW}"
            message = f"This looks like a secret ({kind})."
            findings.append(Finding("secret", Severity.ERROR, message, remedy, path.as_posix(), number))
    return findings


def secret_in(line: str) -> str | None:
    """The kind of secret that a line holds; None when it holds none."""
    for kind, pattern in PATTERNS.items():
        found = pattern.search(line)
        if found is None:
            continue
        value = found.groupdict().get("value")
        if value is None or _is_key(value):
            return kind
    return None


def _is_key(value: str) -> bool:
    if PLACEHOLDERS.search(value):
        return False
    counts = [value.count(sign) for sign in set(value)]
    entropy = -sum(count / len(value) * math.log2(count / len(value)) for count in counts)
    return entropy >= LEAST_ENTROPY
