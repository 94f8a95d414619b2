"""Webhooks of git hosts: whether one is truly from the host, and what it tells."""

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from modelyard.domain.errors import ConfigError, Forbidden, Invalid
from modelyard.domain.project import Repository

COMMIT = re.compile(r"^[0-9a-f]{40}([0-9a-f]{24})?$")
DELETED = re.compile(r"^0+$")


@dataclass(frozen=True)
class Push:
    """A branch now points at a commit. `delivery` is the digest of the body: the same push has the same one."""

    branch: str
    commit: str
    delivery: str


class _Body(msgspec.Struct):
    """What the push events of GitHub and GitLab share."""

    ref: str = ""
    after: str = ""


def variable(name: str, purpose: str) -> str:
    """The value of an environment variable. Raises ConfigError that names it when it is not set."""
    value = os.environ.get(name, "")
    if not value:
        raise ConfigError(
            f"{purpose} needs the environment variable {name or '(none is named)'}, which is not set.",
            remedy="Set it for the server's process, and start it again.",
        )
    return value


def check_signature(name: str, repository: Repository, headers: Mapping[str, str], body: bytes) -> None:
    """Raise Forbidden unless the request proves that its sender knows the repository's secret.

    GitHub signs the body (X-Hub-Signature-256, HMAC-SHA256); GitLab sends the secret itself (X-Gitlab-Token).
    """
    secret = variable(repository.secret, f"The webhook of repository {name!r}").encode()
    if repository.kind == "github":
        expected = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
        given = headers.get("x-hub-signature-256", "")
    else:
        expected, given = secret.decode(), headers.get("x-gitlab-token", "")
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise Forbidden(
            f"The webhook of repository {name!r} is not signed with its secret.",
            remedy=f"Give the git host the secret that {repository.secret} holds.",
        )


def read_push(repository: Repository, headers: Mapping[str, str], body: bytes) -> Push | None:
    """The push that a webhook tells; None for another event or a deleted branch. Raises Invalid."""
    event = headers.get("x-github-event" if repository.kind == "github" else "x-gitlab-event", "")
    if event.lower() not in ("push", "push hook"):
        return None
    try:
        told = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"The webhook's body is not a push: {error}.") from error
    if not told.ref.startswith("refs/heads/") or DELETED.match(told.after):
        return None
    if not COMMIT.match(told.after):
        raise Invalid(f"The webhook names no commit: {told.after[:80]!r}.")
    return Push(told.ref.removeprefix("refs/heads/"), told.after, hashlib.sha256(body).hexdigest())
