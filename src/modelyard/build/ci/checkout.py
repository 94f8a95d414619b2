"""A commit's files in a folder of their own, by git, from a mirror that is kept."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from modelyard.domain.errors import Unavailable

GIT_TIMEOUT_S = 600.0
SAFE = ("-c", "protocol.ext.allow=never", "-c", "core.hooksPath=/dev/null", "-c", "credential.interactive=false")


@contextmanager
def checkout(url: str, commit: str, mirror: Path, folder: Path) -> Generator[Path]:
    """`folder` with the files of a commit, gone afterwards. Raises Unavailable with git's own words."""
    if not (mirror / "HEAD").exists():
        mirror.parent.mkdir(parents=True, exist_ok=True)
        _git("clone", "--quiet", "--mirror", "--", url, str(mirror))
    else:
        _git("-C", str(mirror), "fetch", "--quiet", "--prune", "--", url, "+refs/heads/*:refs/heads/*")
    _git("-C", str(mirror), "worktree", "prune")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _git("-C", str(mirror), "worktree", "add", "--quiet", "--force", "--detach", str(folder), commit)
    try:
        yield folder
    finally:
        _git("-C", str(mirror), "worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> None:
    try:
        done = subprocess.run(
            ["git", *SAFE, *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise Unavailable("git is not installed on the server.", remedy="Install git.") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"git took longer than {GIT_TIMEOUT_S:g} s.", remedy="See whether the host answers."
        ) from error
    if done.returncode != 0:
        words = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Unavailable(
            f"git cannot fetch the commit: {words}", remedy="Check the repository's url and its access."
        )
