"""Opening a yard: its database, its first principals, its declared policies."""

from pathlib import Path

import msgspec
from sqlalchemy import Connection

from modelyard.build.schedules import by_event, clock
from modelyard.build.tracking import experiments
from modelyard.domain.errors import ConfigError
from modelyard.domain.permissions import Role
from modelyard.domain.project import Project, parse_project, seconds
from modelyard.events import log, schedules
from modelyard.governance import principals, tokens
from modelyard.kit.files import atomic_write
from modelyard.kit.hashing import digest_json, sha256_hex
from modelyard.server.following import take_in
from modelyard.server.job_handlers import MONITOR_PRINCIPAL, PIPELINE_PRINCIPAL
from modelyard.server.settings import Settings
from modelyard.server.yard import Yard
from modelyard.store.database import Store
from modelyard.store.objects.opening import open_objects

OWNER = "owner"
COLLECTION = "storage/collection"
CREDENTIALS = "credentials.json"
PROJECT_FILE = "modelyard.toml"


def read_project(folder: Path) -> Project:
    """The project declared in `folder`; an empty one, named after the folder, where there is no file.

    Raises ConfigError.
    """
    file = folder / PROJECT_FILE
    if not file.exists():
        return parse_project(f'[project]\nname = "{folder.name or "yard"}"')
    return parse_project(file.read_text(), str(file))


def open_yard(home: Path, project_dir: Path, settings: Settings) -> Yard:
    """The yard in `home`, made when it is new. Raises ConfigError when the folder cannot be used."""
    project = read_project(project_dir)
    by_event.check(project)
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = home / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"The yard folder {home} cannot be written: {error.strerror}.",
            remedy="Free space or change its rights, or set MODELYARD_HOME to another folder.",
        ) from error
    objects = open_objects(settings.artifacts, home)
    store = Store(settings.database or f"sqlite:///{home / 'yard.db'}", settings.durability)
    secret = store.write_now(lambda conn: _prepare(conn, project))
    if secret:
        _keep(home, secret)
    take_in(store, home, OWNER)
    return Yard(store, objects, home, project_dir, project, settings)


def store_credential(url: str, home: Path) -> None:
    """A token of the owner's for a home whose own does not hold: whoever may write the database owns the yard."""
    file = home / CREDENTIALS
    held = msgspec.json.decode(file.read_bytes())["local"]["token"] if file.exists() else ""
    store = Store(url)
    try:
        if store.read_now(lambda conn: tokens.principal_of(conn, sha256_hex(held.encode()))) is None:
            _keep(home, store.write_now(lambda conn: tokens.issue(conn, OWNER, actor=OWNER, label="restored")))
    finally:
        store.close()


def _keep(home: Path, secret: str) -> None:
    credential = {"local": {"principal": OWNER, "token": secret}}
    atomic_write(home / CREDENTIALS, msgspec.json.encode(credential), mode=0o600)


def _prepare(conn: Connection, project: Project) -> str | None:
    """Make the first principals of a new yard and note changed policies; the owner's token on the first start."""
    secret = None
    if principals.row_of(conn, OWNER) is None:
        log.append(conn, "yard.created", "yard", "modelyard", {"project": project.project.name})
        principals.create(conn, OWNER, "person", [Role.ADMIN], actor="modelyard")
        experiments.ensure_default(conn, actor="modelyard")
        principals.create(conn, PIPELINE_PRINCIPAL, "service", [Role.PIPELINE_SERVICE], actor="modelyard")
        principals.create(conn, MONITOR_PRINCIPAL, "service", [Role.MONITOR_SERVICE], actor="modelyard")
        secret = tokens.issue(conn, OWNER, actor="modelyard", label="command line")
    _note_policies(conn, project)
    _schedule(conn, project)
    clock.declare(conn, project)
    by_event.declare(conn, project)
    return secret


def _note_policies(conn: Connection, project: Project) -> None:
    digest = digest_json(msgspec.to_builtins(project))
    last = log.read(conn, types=["policy.changed"], limit=1, newest_first=True)
    before = last[0].data["after"] if last else None
    if before != digest:
        change = {"before": before, "after": digest, "models": sorted(project.models)}
        log.append(conn, "policy.changed", f"project/{project.project.name}", "modelyard", change)


def _schedule(conn: Connection, project: Project) -> None:
    names = {COLLECTION}
    schedules.put(conn, COLLECTION, 86_400, "collect", {})
    final = project.final_environment
    for model, declared in project.models.items():
        if declared.monitor is not None and final is not None:
            name = f"monitor/{final}/{model}"
            names.add(name)
            payload = {"model": model, "environment": final}
            schedules.put(conn, name, seconds(declared.monitor.every), "monitor", payload)
            again = declared.monitor.retrain.every
            if again is not None:
                names.add(f"retrain/{model}")
                schedules.put(conn, f"retrain/{model}", seconds(again), "retrain", {"model": model})
    schedules.keep_only(conn, names)
