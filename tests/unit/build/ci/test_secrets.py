"""Secrets: found where they are, and words that only look like one let through."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.build.ci import secrets
from modelyard.build.ci.context import Context

# put together here, so that no scanner takes this file for a leak
FOUND = [
    ("private key", "-----BEGIN RSA " + "PRIVATE KEY-----"),
    ("AWS access key", "aws = 'AKIA" + "IOSFODNN7QWERTYU'"),
    ("GitHub token", "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"),
    ("GitLab token", "glpat-" + "a1B2c3D4e5F6g7H8i9J0"),
    ("Slack token", "xoxb-" + "123456789012-abcdefghij"),
    ("Hugging Face token", "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH"),
    ("password in a URL", "postgresql://yard:" + "k9Vq2xLw7@db.internal/yard"),
    ("assigned secret", "password = " + "'k9Vq2xLw7Zr4'"),
    ("assigned secret", '"api_key": ' + '"7f3c9a1be2d84465"'),
]
LET_THROUGH = [
    "password = os.environ['DB_PASSWORD']",
    "password = 'changeme'",
    "token = 'your_token_here'",
    "url = 'postgresql://user:${PASSWORD}@host/db'",
    "secret = ''",
    "# -----BEGIN PUBLIC KEY-----",
    "skip_lines = 'sk-learn'",
]


@pytest.mark.parametrize(("kind", "line"), FOUND)
def test_a_secret_is_named_by_its_kind(kind: str, line: str):
    assert secrets.secret_in(line) == kind


@pytest.mark.parametrize("line", LET_THROUGH)
def test_what_is_no_secret_is_let_through(line: str):
    assert secrets.secret_in(line) is None


def test_findings_name_file_and_line_and_marked_examples_pass(small: Path, context: Callable[..., Context]):
    leak = "password = " + "'k9Vq2xLw7Zr4'"
    (small / "settings.py").write_text(f"x = 1\n{leak}\n{leak}  # {secrets.ALLOW}\n")
    (small / "data.bin").write_bytes(b"\0\0" + leak.encode())
    found = secrets.check(context()).findings
    assert [item.place for item in found] == ["settings.py:2"]
    assert "Revoke" in found[0].remedy


def test_what_git_ignores_is_not_what_a_commit_publishes(small: Path, context: Callable[..., Context]):
    subprocess.run(["git", "init", "-q", str(small)], check=True)
    (small / ".gitignore").write_text(".env\n")
    for name in (".env", "open.env"):
        (small / name).write_text("password = " + "'k9Vq2xLw7Zr4'\n")
    assert [item.file for item in secrets.check(context()).findings] == ["open.env"]
