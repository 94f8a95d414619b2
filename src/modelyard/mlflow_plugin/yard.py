"""A yard opened in this process for `modelyard://` URIs: the server's own application, without a socket."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from modelyard.client.transport import Answer, InProcessTransport
from modelyard.domain.errors import ConfigError
from modelyard.kit.hashing import CHUNK

SCHEME = "modelyard://"
PROJECT_FILE = "modelyard.toml"


def yard_home(start: Path) -> Path | None:
    """The yard's folder: $MODELYARD_HOME, or `.modelyard` of the nearest project from `start` upwards."""
    named = os.environ.get("MODELYARD_HOME")
    if named:
        return Path(named)
    for folder in (start, *start.parents):
        if (folder / PROJECT_FILE).exists():
            return folder / ".modelyard"
    return None


def home_of(uri: str) -> Path:
    """The yard that a URI names: `modelyard:///path/of/project`, or `modelyard://` for the project around here.

    Raises ConfigError when there is none.
    """
    path = uri.removeprefix(SCHEME)
    if path:
        return Path(path) / ".modelyard"
    found = yard_home(Path.cwd())
    if found is None:
        raise ConfigError(
            f"There is no {PROJECT_FILE} in {Path.cwd()} or above it.",
            remedy="Name the project: modelyard:///path/of/project",
        )
    return found


class LocalYard:
    """Requests to the yard as its owner."""

    def __init__(self, home: Path) -> None:
        from modelyard.server.app import Embedded  # late: only in-process use loads the server
        from modelyard.server.bootstrap import open_yard
        from modelyard.server.settings import Settings

        database = os.environ.get("MODELYARD_DATABASE", "")
        settings = Settings(loops=False, database=database, artifacts=os.environ.get("MODELYARD_ARTIFACTS", ""))
        self._transport = InProcessTransport(Embedded(open_yard(home, home.parent, settings)))
        self._headers = {"authorization": f"Bearer {os.environ.get('MODELYARD_TOKEN') or _stored(home)}"}

    def ask(self, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None) -> Answer:
        """The answer to a request; `body` is JSON unless it is bytes."""
        headers = {**self._headers, "content-type": "application/json"}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return self._transport.send(method, path, query or {}, headers, data)

    def upload(self, path: str, file: Path) -> Answer:
        """The answer to a PUT of a file, which is read in pieces."""
        with file.open("rb") as stream:
            headers = {**self._headers, "content-length": str(os.fstat(stream.fileno()).st_size)}
            return self._transport.send("PUT", path, {}, headers, iter(lambda: stream.read(CHUNK), b""))

    def download(self, path: str, file: Path) -> Answer:
        """The answer to a GET whose content goes into a file, in pieces; without success there is no file."""
        with file.open("wb") as stream:
            answer = self._transport.send("GET", path, {}, self._headers, None, stream)
        if answer.status != 200:
            file.unlink()
        return answer


def _stored(home: Path) -> str:
    try:
        return json.loads((home / "credentials.json").read_text())["local"]["token"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"There is no readable credential in {home}.", remedy="Set MODELYARD_TOKEN to a token of this yard."
        ) from error


@cache
def local_yard(home: Path) -> LocalYard:
    """One for a process and yard: it holds the database open."""
    return LocalYard(home)
