"""Model versions: immutable numbered entries, each the digest of a manifest of files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from modelyard.domain.errors import AlreadyExists, Conflict, Invalid, NotFound
from modelyard.domain.permissions import Principal
from modelyard.domain.states import VersionState, check_transition
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.kit.hashing import digest_json
from modelyard.registry import models
from modelyard.store.tables.registry import aliases, version_files, version_states, versions

CHAMPION = "champion"
"""The alias of the version that serves in the last environment."""
MOST_ALIAS = 255


@dataclass(frozen=True)
class ManifestFile:
    """A file of a version: path relative to the model's folder, SHA-256, bytes."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True)
class Version:
    model: str
    version: int
    digest: str
    source: str
    location: str | None
    """Where the files are, for a source that names a model instead of a place."""
    run_id: str | None
    model_id: str | None
    pipeline_run_id: str | None
    registrar: str
    author: str | None
    description: str
    tags: dict[str, str]
    lineage: dict[str, Any]
    stage: str
    created_at: int
    updated_at: int
    event_id: str | None
    aliases: tuple[str, ...] = ()
    states: tuple[tuple[str, str], ...] = ()

    @property
    def subject(self) -> str:
        return f"version/{self.model}/{self.version}"


def manifest_digest(files: Sequence[ManifestFile]) -> str:
    """SHA-256 of the sorted list of (path, digest, size): what approvals and deployments are bound to."""
    return digest_json(sorted([file.path, file.digest, file.size] for file in files))


def register(
    conn: Connection,
    name: str,
    files: Sequence[ManifestFile],
    *,
    actor: Principal,
    source: str,
    location: str | None = None,
    author: str | None = None,
    run_id: str | None = None,
    model_id: str | None = None,
    pipeline_run_id: str | None = None,
    description: str = "",
    tags: dict[str, str] | None = None,
    lineage: dict[str, Any] | None = None,
    cause: str | None = None,
    number: int | None = None,
    created_at: int | None = None,
    bare: bool = False,
) -> Version:
    """The next version of `name`, or the one with a given `number` (an import). `author` is who ran what made it.

    Its lineage names the champion of the moment as its parent.
    bare: it may be without files here, a note of where a model lies; `require_files` keeps it out of environments.
    Raises NotFound for an unknown model, Invalid when there are no files, AlreadyExists for a number in use.
    """
    models.get(conn, name)
    if not files and not bare:
        raise Invalid(f"{source} holds no files.", remedy="Log the model before registering it.")
    number = _number(conn, name, number)
    digest = manifest_digest(files)
    data = {"model": name, "version": number, "digest": digest, "run": run_id, "source": source}
    event = log.append(conn, "version.registered", f"version/{name}/{number}", actor.name, data, cause=cause)
    now = created_at or now_ms()
    before = conn.execute(select(aliases.c.version).where(*_alias_key(name, CHAMPION))).scalar()
    conn.execute(
        insert(versions).values(
            model=name,
            version=number,
            digest=digest,
            source=source,
            location=location,
            run_id=run_id,
            model_id=model_id,
            pipeline_run_id=pipeline_run_id,
            registrar=actor.name,
            author=author,
            description=description,
            tags=tags or {},
            lineage={**({"parent": before} if before else {}), **(lineage or {})},
            stage="None",
            created_at=now,
            updated_at=now,
            event_id=event.id,
        )
    )
    rows = [{"model": name, "version": number, **file.__dict__} for file in files]
    if rows:
        conn.execute(insert(version_files), rows)
    models.touch(conn, name)
    return get(conn, name, number)


def _number(conn: Connection, name: str, wanted: int | None) -> int:
    """A number that was never used: not twice, even after its version was deleted."""

    def used(number: int) -> bool:
        subject = f"version/{name}/{number}"
        return bool(log.read(conn, types=["version.registered"], subject=subject, limit=1))

    if wanted is not None:
        if wanted < 1 or used(wanted) or find(conn, name, wanted):
            raise AlreadyExists(f"{name} v{wanted} was registered already.", remedy="A number is used once.")
        return wanted
    number = (conn.execute(select(func.max(versions.c.version)).where(versions.c.model == name)).scalar() or 0) + 1
    while used(number):
        number += 1
    return number


def find(conn: Connection, name: str, number: int) -> Version | None:
    row = conn.execute(select(versions).where(versions.c.model == name, versions.c.version == number)).first()
    return load(conn, [row])[0] if row else None


def get(conn: Connection, name: str, number: int) -> Version:
    found = find(conn, name, number)
    if found is None:
        raise NotFound(f"Model Version (name={name}, version={number}) not found")
    return found


def resolve(conn: Connection, name: str, reference: str) -> Version:
    """The version that `3`, `latest` or an alias such as `champion` names. Raises NotFound."""
    if reference.isdigit():
        return get(conn, name, int(reference))
    if reference == "latest":
        found = of_model(conn, name, limit=1)
        if not found:
            raise NotFound(f"{name} has no version yet.")
        return found[0]
    number = conn.execute(select(aliases.c.version).where(*_alias_key(name, reference))).scalar()
    if number is None:
        models.get(conn, name)
        raise NotFound(f"Registered model alias {reference} not found.")
    return get(conn, name, number)


def _alias_key(name: str, alias: str) -> tuple[Any, ...]:
    return (aliases.c.model == name, aliases.c.alias == alias)


def of_model(conn: Connection, name: str, limit: int = 1000, offset: int = 0) -> list[Version]:
    """A model's versions, newest first."""
    query = select(versions).where(versions.c.model == name).order_by(versions.c.version.desc())
    return load(conn, conn.execute(query.limit(limit).offset(offset)).all())


def matching(conn: Connection, limit: int = 1000, offset: int = 0, **equal: Any) -> list[Version]:
    """Versions whose columns equal the given values (lists: are among them), newest first."""
    query = select(versions)
    for column, value in equal.items():
        clause = versions.c[column].in_(value) if isinstance(value, list) else versions.c[column] == value
        query = query.where(clause)
    query = query.order_by(versions.c.created_at.desc(), versions.c.model, versions.c.version.desc())
    return load(conn, conn.execute(query.limit(limit).offset(offset)).all())


def files(conn: Connection, name: str, number: int) -> list[ManifestFile]:
    """The version's manifest, by path."""
    where = (version_files.c.model == name, version_files.c.version == number)
    query = select(version_files).where(*where).order_by(version_files.c.path)
    return [ManifestFile(row.path, row.digest, row.size) for row in conn.execute(query)]


def require_files(conn: Connection, version: Version) -> None:
    """Raises Conflict for a version that holds no files, which nothing can serve."""
    if not files(conn, version.model, version.version):
        raise Conflict(
            f"{version.model} v{version.version} holds no files: it was registered from {version.source[:200]}.",
            remedy="Log the model here and register it again.",
        )


def change(conn: Connection, name: str, number: int, *, actor: str, **values: Any) -> Version:
    """The version after its description, tags or stage changed; nothing else of it ever does.

    Tags alone do not date it, as in MLflow; a stage dates its model too.
    """
    if not set(values) <= {"description", "tags", "stage"}:
        raise Invalid("Only a version's description, tags and stage change.")
    before = get(conn, name, number)
    where = (versions.c.model == name, versions.c.version == number)
    moved = {} if values.keys() == {"tags"} else {"updated_at": now_ms()}
    conn.execute(update(versions).where(*where).values(**values, **moved))
    if "stage" in values:
        models.touch(conn, name)
    data = {"before": {key: before.__dict__[key] for key in values}, "after": values}
    log.append(conn, "version.changed", before.subject, actor, data)
    return get(conn, name, number)


def set_tag(conn: Connection, name: str, number: int, key: str, value: str | None, *, actor: str) -> None:
    """Set a tag, or remove it when `value` is None."""
    tags = dict(get(conn, name, number).tags)
    if value is None:
        tags.pop(key, None)
    else:
        tags[key] = value
    change(conn, name, number, actor=actor, tags=tags)


def remove(conn: Connection, name: str, number: int, *, actor: str) -> None:
    """Delete a version that serves nowhere. Raises Conflict for one that is approved somewhere."""
    found = get(conn, name, number)
    approved = [environment for environment, state in found.states if state == VersionState.APPROVED]
    if approved:
        raise Conflict(
            f"{name} v{number} is approved for {', '.join(approved)}.",
            remedy="Deploy another version and retire it first.",
        )
    conn.execute(delete(versions).where(versions.c.model == name, versions.c.version == number))
    models.touch(conn, name)
    data = {"deleted": True, "digest": found.digest, "aliases": found.aliases}
    log.append(conn, "version.changed", found.subject, actor, data)


def set_alias(
    conn: Connection, name: str, alias: str, number: int | None, *, actor: str, cause: str | None = None
) -> None:
    """Point an alias at a version, or remove it when `number` is None.

    Gates compare with the champion, so once a rollout has made one, only rollouts (which name their `cause`) move it.
    Raises Conflict then.
    """
    if alias == CHAMPION and cause is None and _made_by_rollout(conn, name):
        raise Conflict(
            f"{CHAMPION} of {name} follows what production serves.",
            remedy="Deploy another approved version, or roll back: modelyard rollback production/ENDPOINT",
        )
    where = (aliases.c.model == name, aliases.c.alias == alias)
    before = conn.execute(select(aliases.c.version).where(*where)).scalar()
    if number is None:
        models.get(conn, name)
        conn.execute(delete(aliases).where(*where))
    else:
        get(conn, name, number)
        if not alias or len(alias) > MOST_ALIAS or alias.isdigit() or alias == "latest":
            raise Invalid(f"{alias!r} cannot be an alias.", remedy="Use a word such as champion.")
        if before is None:
            conn.execute(insert(aliases).values(model=name, alias=alias, version=number))
        else:
            conn.execute(update(aliases).where(*where).values(version=number))
    if before != number:
        data = {"model": name, "alias": alias, "from": before, "to": number}
        log.append(conn, "alias.moved", f"model/{name}", actor, data, cause=cause)


def _made_by_rollout(conn: Connection, name: str) -> bool:
    moves = log.read(conn, types=["alias.moved"], subject=f"model/{name}")
    return any(event.data["alias"] == CHAMPION and event.cause is not None for event in moves)


def aliases_of(conn: Connection, name: str) -> dict[str, int]:
    query = select(aliases).where(aliases.c.model == name).order_by(aliases.c.alias)
    return {row.alias: row.version for row in conn.execute(query)}


def state(conn: Connection, name: str, number: int, environment: str) -> VersionState:
    """A version's standing in an environment: a candidate until something was decided."""
    where = _state_key(name, number, environment)
    return VersionState(conn.execute(select(version_states.c.state).where(*where)).scalar() or VersionState.CANDIDATE)


def set_state(conn: Connection, name: str, number: int, environment: str, after: VersionState) -> None:
    """Move a version's standing. Raises Conflict for a transition that is not legal."""
    before = state(conn, name, number, environment)
    if before is after:
        return
    check_transition(f"{name} v{number} in {environment}", before, after)
    where = _state_key(name, number, environment)
    values = {"state": str(after), "updated_at": now_ms()}
    if not conn.execute(update(version_states).where(*where).values(**values)).rowcount:
        key = {"model": name, "version": number, "environment": environment}
        conn.execute(insert(version_states).values(**key, **values))


def _state_key(name: str, number: int, environment: str) -> tuple[Any, ...]:
    table = version_states.c
    return (table.model == name, table.version == number, table.environment == environment)


def load(conn: Connection, rows: Sequence[Row[Any]]) -> list[Version]:
    """Versions of bare rows, with their aliases and states."""
    names = {row.model for row in rows}
    held: dict[tuple[str, int], list[str]] = {}
    for row in conn.execute(select(aliases).where(aliases.c.model.in_(names)).order_by(aliases.c.alias)):
        held.setdefault((row.model, row.version), []).append(row.alias)
    states: dict[tuple[str, int], list[tuple[str, str]]] = {}
    query = select(version_states).where(version_states.c.model.in_(names)).order_by(version_states.c.environment)
    for row in conn.execute(query):
        states.setdefault((row.model, row.version), []).append((row.environment, row.state))
    return [
        Version(
            **row._mapping,  # pyright: ignore[reportPrivateUsage]
            aliases=tuple(held.get((row.model, row.version), ())),
            states=tuple(states.get((row.model, row.version), ())),
        )
        for row in rows
    ]
