"""A yard in one file: its database as one moment saw it, the artifacts that it refers to, its prediction logs.

The file is a tar archive; `contents.json`, its last member, says what the others hold: without it the backup was cut
short.
"""

import io
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO

import msgspec
from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from modelyard.domain.errors import ConfigError, Conflict, NotFound
from modelyard.events import audit, log
from modelyard.kit.clock import now_ms
from modelyard.kit.files import sync_folder
from modelyard.kit.hashing import CHUNK
from modelyard.store import copying, schema
from modelyard.store.database import Store
from modelyard.store.engine import make_engines
from modelyard.store.objects.collection import referenced
from modelyard.store.objects.port import Objects

DATABASE, CONTENTS, OBJECTS, PREDICTIONS = "yard.db", "contents.json", "objects", "predictions"
BLOB = re.compile(rf"{OBJECTS}/([0-9a-f]{{64}})")
LOGGED = re.compile(rf"{PREDICTIONS}(/[\w=-][\w.=-]*)+")
INSIDE = "inside"


class Contents(msgspec.Struct, frozen=True):
    """What a backup holds. `artifacts` is where they are: inside, or the store that they stayed in."""

    made_at: int
    modelyard: str
    schema: str
    rows: dict[str, int]
    events: int
    head: str
    """The digest of the newest record of the audit chain that is in order."""
    broken_at: int | None
    """The first broken record, where the chain was broken already."""
    artifacts: str
    blobs: int
    lost: list[str]
    """Digests that the database refers to and the artifact store did not have."""


def write(file: Path, url: str, objects: Objects, home: Path, artifacts: str = INSIDE) -> Contents:
    """Back up the yard into a file, whole or absent, while servers go on writing.

    artifacts: where they stay, when they shall not be copied. Raises OSError.
    """
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".backup-") as name:
        folder = Path(name)
        copying.snapshot(url, folder / DATABASE)
        with tarfile.open(folder / "archive", "x") as archive:
            archive.add(folder / DATABASE, DATABASE)
            wanted = _wanted(folder / DATABASE)
            lost = [] if artifacts != INSIDE else _add_blobs(archive, objects, wanted, folder / "blob")
            _add_predictions(archive, home / PREDICTIONS)
            contents = _described(folder / DATABASE, artifacts, len(wanted) - len(lost), lost)
            data = msgspec.json.format(msgspec.json.encode(contents))
            member = tarfile.TarInfo(CONTENTS)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        with (folder / "archive").open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(folder / "archive", file)
    sync_folder(file.parent)
    return contents


def restore(file: Path, url: str, objects: Objects, home: Path) -> Contents:
    """Make the yard what the backup holds; its database is touched when everything was found whole, not before.

    Raises Conflict when the backup is not what it says, ConfigError when it is none or of another schema.
    """
    with tempfile.TemporaryDirectory(dir=home, prefix=".restore-") as name:
        folder = Path(name)
        contents = _unpack(file, folder, objects)
        _check(folder / DATABASE, contents, objects)
        copying.replace(url, folder / DATABASE)
        shutil.copytree(folder / PREDICTIONS, home / PREDICTIONS, dirs_exist_ok=True)
    store = Store(url)
    try:
        told = {"made_at": contents.made_at, "events": contents.events, "head": contents.head}
        store.write_now(lambda conn: log.append(conn, "yard.restored", "yard", "modelyard", told))
    finally:
        store.close()
    return contents


def holds_anything(url: str) -> bool:
    """Whether there is a yard at `url`. Raises ConfigError for what is neither a yard nor empty."""
    file = make_url(url).database or ""
    if url.startswith("sqlite") and not Path(file).exists():
        return False
    writes, reads = make_engines(url)
    try:
        return schema.current(reads) is not None
    finally:
        writes.dispose()
        reads.dispose()


@contextmanager
def _reading(database: Path) -> Generator[Connection]:
    engine = create_engine(f"sqlite:///{database}")
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise Conflict(f"The database is damaged: {error.orig}.", remedy="Restore an earlier backup.") from error
    finally:
        engine.dispose()


def _wanted(database: Path) -> list[str]:
    with _reading(database) as conn:
        return sorted(referenced(conn))


def _described(database: Path, artifacts: str, blobs: int, lost: list[str]) -> Contents:
    with _reading(database) as conn:
        chain, rows = audit.verify(conn), copying.counts(conn)
    head = (chain.records, chain.head, chain.broken_at)
    return Contents(now_ms(), version("modelyard"), schema.HEAD, rows, *head, artifacts, blobs, lost)


def _add_blobs(archive: tarfile.TarFile, objects: Objects, wanted: list[str], spare: Path) -> list[str]:
    """Copy blobs into the archive, each checked against its digest; those that are not there."""
    lost: list[str] = []
    for digest in wanted:
        try:
            objects.fetch(digest, spare)
        except NotFound:
            lost.append(digest)
            continue
        archive.add(spare, f"{OBJECTS}/{digest}")
        spare.unlink()
    return lost


def _add_predictions(archive: tarfile.TarFile, folder: Path) -> None:
    """Copy the prediction logs: Parquet last, since a segment that is gone meanwhile has become Parquet."""
    for parquet in (False, True):
        for file in sorted(folder.rglob("*")):
            if file.is_file() and (file.suffix == ".parquet") == parquet:
                with suppress(FileNotFoundError):
                    archive.add(file, f"{PREDICTIONS}/{file.relative_to(folder).as_posix()}")


def _unpack(file: Path, folder: Path, objects: Objects) -> Contents:
    """Database and logs into `folder`, blobs into the store, where one more or less changes nothing."""
    (folder / PREDICTIONS).mkdir()
    contents = None
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is None:
                    raise _foreign(file)
                if member.name == CONTENTS:
                    contents = msgspec.json.decode(content.read(), type=Contents)
                elif blob := BLOB.fullmatch(member.name):
                    _take(objects, blob[1], content)
                elif member.name == DATABASE or LOGGED.fullmatch(member.name):
                    (folder / member.name).parent.mkdir(parents=True, exist_ok=True)
                    with (folder / member.name).open("xb") as target:
                        shutil.copyfileobj(content, target, CHUNK)
                else:
                    raise _foreign(file)
    except (tarfile.TarError, msgspec.DecodeError) as error:
        raise _foreign(file) from error
    if contents is None:
        raise Conflict(f"{file} was cut short: its contents are not listed.", remedy="Take another backup.")
    return contents


def _take(objects: Objects, digest: str, content: IO[bytes]) -> None:
    blob = objects.put_chunks(iter(lambda: content.read(CHUNK), b""))
    if blob.digest != digest:
        raise Conflict(f"The artifact {digest[:16]} in the backup is damaged.", remedy="Take another backup.")


def _foreign(file: Path) -> ConfigError:
    return ConfigError(f"{file} is no backup of a yard.", remedy="Name a file that `modelyard db backup` wrote.")


def _check(database: Path, contents: Contents, objects: Objects) -> None:
    """Raises Conflict unless rows, audit chain and artifacts are what the backup says."""
    if contents.schema != schema.HEAD:
        raise ConfigError(
            f"The backup has schema {contents.schema}; this modelyard has {schema.HEAD}.",
            remedy=f"Restore it with modelyard {contents.modelyard}, then upgrade.",
        )
    found = _described(database, contents.artifacts, contents.blobs, contents.lost)
    if found.rows != contents.rows:
        raise Conflict("The backup's tables do not have the rows that it lists.", remedy="Take another backup.")
    if (found.events, found.head) != (contents.events, contents.head):
        raise Conflict("The backup's audit chain does not end where it says.", remedy="Take another backup.")
    known = {blob.digest for blob in objects.kept()} | {blob.digest for blob in objects.binned()}
    absent = [digest for digest in _wanted(database) if digest not in known and digest not in contents.lost]
    if absent:
        raise Conflict(
            f"{len(absent)} artifacts are in neither the backup nor the artifact store, such as {absent[0][:16]}.",
            remedy=f"The backup was made beside the store {contents.artifacts}: name it with --artifacts.",
        )
