"""Artifacts: a path is a key of the database, never of the file system."""

import os
import posixpath
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from sqlalchemy import Connection, delete, insert, select, update

from modelyard.domain.errors import Conflict, Invalid, NotFound
from modelyard.kit.clock import now_ms
from modelyard.store.objects.port import Blob
from modelyard.store.tables.registry import versions
from modelyard.store.tables.tracking import artifacts

SCHEME = "mlflow-artifacts:/"
MOST_PLACE = 2048


@dataclass(frozen=True)
class Artifact:
    """A stored file: its full path and content."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True)
class Entry:
    """A file or folder in a listing, by its name relative to the listed folder."""

    path: str
    is_folder: bool
    size: int | None


def clean(path: str) -> str:
    """The canonical form of a client's path. Raises Invalid for one that climbs out or is empty."""
    parts = path.strip("/").split("/")
    if any(part in ("", ".", "..") or "\x00" in part or "\\" in part for part in parts) or len(path) > 1500:
        raise Invalid(f"Invalid artifact path: {path[:200]!r}", remedy="Use names separated by '/', without '..'.")
    return posixpath.join(*parts)


def run_root(experiment_id: int, run_id: str) -> str:
    return f"{experiment_id}/{run_id}/artifacts"


def model_root(experiment_id: int, model_id: str) -> str:
    return f"{experiment_id}/models/{model_id}/artifacts"


def checked_place(location: str) -> str:
    """A place outside this server where clients shall keep an experiment's files; a bare path is one of this machine.

    Raises Invalid for a place that no client could write to, or that is this server's own.
    """
    parts = urlsplit(location)
    if len(location) > MOST_PLACE or parts.fragment or ".." in unquote(parts.path).split("/"):
        raise Invalid(
            f"Invalid artifact location {location[:100]!r}.",
            remedy=f"Use at most {MOST_PLACE} characters, no '#' and no '..'.",
        )
    if parts.scheme in ("http", "https", "runs", "models", SCHEME.rstrip(":/")):
        raise Invalid(
            f"Invalid artifact location {location[:100]!r}: its files cannot be kept there.",
            remedy="Leave artifact_location out, and this server keeps them; or name a bucket or a folder.",
        )
    return location if parts.scheme else os.path.join(os.getcwd(), location)


def below(place: str, path: str) -> str | None:
    """The address of `path` in an experiment's place; None where this server keeps the files."""
    if place.startswith(SCHEME):
        return None
    base, mark, query = place.partition("?")
    return f"{base.rstrip('/')}/{path}{mark}{query}"


def put(conn: Connection, path: str, blob: Blob) -> None:
    """Record a file; its former content at the path is replaced.

    Raises Conflict for a file of a registered version, which is immutable.
    """
    path = clean(path)
    refuse_registered(conn, path)
    values = {"digest": blob.digest, "size": blob.size, "created_at": now_ms()}
    if not conn.execute(update(artifacts).where(artifacts.c.path == path).values(**values)).rowcount:
        conn.execute(insert(artifacts).values(path=path, **values))


def get(conn: Connection, path: str) -> Artifact:
    row = conn.execute(select(artifacts).where(artifacts.c.path == clean(path))).first()
    if row is None:
        raise NotFound(f"There is no artifact {path!r}.")
    return Artifact(row.path, row.digest, row.size)


def under(conn: Connection, root: str) -> list[Artifact]:
    """Every file below a folder, by path; or the file itself."""
    root = clean(root)
    query = select(artifacts).where(
        (artifacts.c.path == root) | ((artifacts.c.path >= root + "/") & (artifacts.c.path < root + "0"))
    )
    return [Artifact(row.path, row.digest, row.size) for row in conn.execute(query.order_by(artifacts.c.path))]


def listing(conn: Connection, root: str) -> list[Entry]:
    """The files and folders directly in a folder."""
    root = clean(root)
    found: dict[str, Entry] = {}
    for artifact in under(conn, root):
        if artifact.path == root:
            continue
        name, below, _ = artifact.path[len(root) + 1 :].partition("/")
        found[name] = Entry(name, bool(below), None if below else artifact.size)
    return [found[name] for name in sorted(found)]


def remove(conn: Connection, path: str) -> int:
    """How many files were removed at and below a path. Raises Conflict for files of a registered version."""
    doomed = under(conn, path)
    for artifact in doomed:
        refuse_registered(conn, artifact.path)
    conn.execute(delete(artifacts).where(artifacts.c.path.in_([artifact.path for artifact in doomed])))
    return len(doomed)


def refuse_registered(conn: Connection, path: str) -> None:
    """Raises Conflict for a file of a registered version, which is immutable."""
    parts = path.split("/")
    model_id = parts[2] if len(parts) > 3 and parts[1] == "models" else None
    if model_id is None:
        return
    row = conn.execute(select(versions.c.model, versions.c.version).where(versions.c.model_id == model_id)).first()
    if row is not None:
        raise Conflict(
            f"{row.model} v{row.version} is registered from these files; they are immutable.",
            remedy="Log a new model and register it as a new version.",
        )
