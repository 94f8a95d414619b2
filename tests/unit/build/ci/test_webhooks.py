"""Signed webhooks: who sends them, and what they tell."""

import hashlib
import hmac
import json

import pytest

from modelyard.build.ci import webhooks
from modelyard.domain.errors import ConfigError, Forbidden, Invalid
from modelyard.domain.project import Repository

GITHUB = Repository(url="https://host/team/flights.git", secret="HOOK_SECRET")
GITLAB = Repository(url="https://host/team/flights.git", secret="HOOK_SECRET", kind="gitlab")
COMMIT = "a" * 40
PUSH = json.dumps({"ref": "refs/heads/main", "after": COMMIT, "more": {"ignored": True}}).encode()


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "s3cret-of-the-hook")


def signature(body: bytes, secret: str = "s3cret-of-the-hook") -> dict[str, str]:
    return {"x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def test_a_signed_push_is_taken():
    webhooks.check_signature("r", GITHUB, signature(PUSH), PUSH)
    push = webhooks.read_push(GITHUB, {"x-github-event": "push"}, PUSH)
    assert push is not None and (push.branch, push.commit) == ("main", COMMIT)


def test_githubs_own_example_of_a_signature(monkeypatch: pytest.MonkeyPatch):
    """Source: docs.github.com, "Validating webhook deliveries", test values."""
    monkeypatch.setenv("HOOK_SECRET", "It's a Secret to Everybody")
    given = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    webhooks.check_signature("r", GITHUB, {"x-hub-signature-256": given}, b"Hello, World!")


@pytest.mark.parametrize(
    ("repository", "headers", "body"),
    [
        (GITHUB, {}, PUSH),
        (GITHUB, signature(PUSH, "another"), PUSH),
        (GITHUB, signature(PUSH), PUSH + b" "),
        (GITHUB, {"x-hub-signature-256": "sha256="}, PUSH),
        (GITHUB, {"x-gitlab-token": "s3cret-of-the-hook"}, PUSH),
        (GITLAB, {"x-gitlab-token": "another"}, PUSH),
        (GITLAB, {}, PUSH),
        (GITLAB, signature(PUSH), PUSH),
    ],
)
def test_anything_else_is_refused(repository: Repository, headers: dict[str, str], body: bytes):
    with pytest.raises(Forbidden):
        webhooks.check_signature("r", repository, headers, body)


def test_without_a_secret_nobody_is_let_in(monkeypatch: pytest.MonkeyPatch):
    for value in (None, ""):
        monkeypatch.delenv("HOOK_SECRET") if value is None else monkeypatch.setenv("HOOK_SECRET", value)
        with pytest.raises(ConfigError, match="HOOK_SECRET"):
            webhooks.check_signature("r", GITLAB, {"x-gitlab-token": ""}, PUSH)


def test_gitlabs_token_and_event_names():
    webhooks.check_signature("r", GITLAB, {"x-gitlab-token": "s3cret-of-the-hook"}, PUSH)
    push = webhooks.read_push(GITLAB, {"x-gitlab-event": "Push Hook"}, PUSH)
    assert push is not None and push.commit == COMMIT


@pytest.mark.parametrize(
    ("event", "body"),
    [
        ("ping", {"zen": "..."}),
        ("push", {"ref": "refs/tags/v1", "after": COMMIT}),
        ("push", {"ref": "refs/heads/main", "after": "0" * 40}),
    ],
)
def test_what_is_no_push_to_a_branch_is_no_push(event: str, body: dict[str, str]):
    assert webhooks.read_push(GITHUB, {"x-github-event": event}, json.dumps(body).encode()) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"\xff", json.dumps({"ref": "refs/heads/m", "after": "--upload"}).encode()]
)
def test_a_broken_body_is_refused(body: bytes):
    with pytest.raises(Invalid):
        webhooks.read_push(GITHUB, {"x-github-event": "push"}, body)
