"""A backup of a yard that is written to meanwhile is one moment of it, and comes back whole or not at all."""

import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.build.tracking import artifacts
from modelyard.client.api import Client
from modelyard.domain.errors import ConfigError, Conflict
from modelyard.server import backups
from modelyard.server.bootstrap import open_yard
from modelyard.server.settings import Settings
from modelyard.store.objects.local import LocalObjects
from tests.conftest import MINIMAL, RunningServer, start_server

FILES = "/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts"
MLFLOW = "/api/2.0/mlflow"


def db(project: Path, *arguments: str, expected: int = 0) -> str:
    """What `modelyard db` printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD", "MLFLOW"))}
    command = [sys.executable, "-m", "modelyard", "db", *arguments]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout + done.stderr


def project_in(folder: Path) -> Path:
    folder.mkdir()
    (folder / "modelyard.toml").write_text(MINIMAL)
    return folder


class Writer(threading.Thread):
    """Creates runs, each with an artifact of its own, until it is stopped."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client, self.made, self.enough, self._end = client, 0, threading.Event(), threading.Event()

    def run(self) -> None:
        while not self._end.is_set():
            number = self.made
            self.client.call("POST", f"{MLFLOW}/runs/create", body={"experiment_id": "0", "run_name": str(number)})
            self.client.upload("PUT", f"{FILES}/{number}", [f"artifact {number}".encode()])
            self.made += 1
            if self.made == 20:
                self.enough.set()

    def stop(self) -> None:
        self._end.set()
        self.join()


@pytest.fixture
def hub(database: str, tmp_path: Path) -> Iterator[RunningServer]:
    options = [] if database.startswith("sqlite") else ["--database", database]
    running = start_server(project_in(tmp_path / "first"), *options)
    yield running
    if running.process.poll() is None:
        running.stop()


def runs(client: Client) -> list[dict[str, Any]]:
    body = {"experiment_ids": ["0"], "max_results": 50_000}
    return client.call("POST", f"{MLFLOW}/runs/search", body=body).get("runs", [])


def test_a_backup_under_load_is_one_moment_and_comes_back(hub: RunningServer, database: str, tmp_path: Path) -> None:
    where = [] if database.startswith("sqlite") else ["--database", database]
    logged = hub.home / "predictions" / "production" / "delay"
    logged.mkdir(parents=True)
    (logged / "00001.segment").write_bytes(b"records")
    writer, file = Writer(hub.client), tmp_path / "yard.tar"
    writer.start()
    assert writer.enough.wait(60)
    said = db(hub.project, "backup", str(file), *where)
    least = 20
    writer.stop()
    assert "Audit chain:" in said and hub.process.poll() is None
    assert "is there already" in db(hub.project, "backup", str(file), *where, expected=1)

    second = project_in(tmp_path / "second")
    db(second, "restore", str(file))
    restored = start_server(second)
    try:
        found = runs(restored.client)
        assert least <= len(found) <= writer.made == len(runs(hub.client))
        last = max(int(run["info"]["run_name"]) for run in found) - 1  # the newest may lack its artifact yet
        assert restored.client.download(f"{FILES}/{last}") == f"artifact {last}".encode()
        assert restored.client.call("GET", "/api/v1/audit/verification")["intact"]
        assert (second / ".modelyard/predictions/production/delay/00001.segment").read_bytes() == b"records"
        restored.client.call("POST", f"{MLFLOW}/runs/create", body={"experiment_id": "0"})  # numbers go on
        assert "Stop it first" in db(second, "restore", str(file), "--force", expected=1)
    finally:
        restored.stop()
    assert "--force" in db(second, "restore", str(file), expected=1)


@pytest.mark.slow
def test_a_laptops_yard_moves_to_postgresql_and_back(cluster: Any, tmp_path: Path) -> None:
    laptop, there = project_in(tmp_path / "laptop"), project_in(tmp_path / "there")
    hub, file = start_server(laptop), tmp_path / "yard.tar"
    run = hub.client.call("POST", f"{MLFLOW}/runs/create", body={"experiment_id": "0"})["run"]["info"]["run_id"]
    hub.client.call("POST", f"{MLFLOW}/runs/log-metric", body={"run_id": run, "key": "m", "value": 1, "timestamp": 1})
    hub.stop()
    db(laptop, "backup", str(file))
    url = cluster.new_database()
    db(there, "restore", str(file), "--database", url)
    hub = start_server(there, "--database", url)
    try:
        assert [found["info"]["run_id"] for found in runs(hub.client)] == [run]
        hub.client.call("POST", f"{MLFLOW}/runs/create", body={"experiment_id": "0"})
        assert hub.client.call("GET", "/api/v1/audit/verification")["intact"]
    finally:
        hub.stop()
    assert "--force" in db(there, "restore", str(file), "--database", url, expected=1)
    db(there, "backup", str(file), "--database", url, "--force")
    db(laptop, "restore", str(file), "--force")


def repacked(file: Path, target: Path, change: Any) -> Path:
    """The archive with some members left out or changed."""
    with tarfile.open(file) as old, tarfile.open(target, "w") as new:
        for member in old:
            content = old.extractfile(member)
            assert content is not None
            changed = change(member, content.read())
            if changed is not None:
                member.size = len(changed)
                new.addfile(member, io.BytesIO(changed))
    return target


def test_what_is_damaged_cut_or_foreign_restores_nothing(tmp_path: Path) -> None:
    home, file, bad = tmp_path / "first", tmp_path / "yard.tar", tmp_path / "bad.tar"
    yard = open_yard(home, tmp_path, Settings(loops=False))
    blob = yard.objects.put_chunks([b"content"])
    yard.store.write_now(lambda conn: artifacts.put(conn, "0/r/artifacts/a", blob))
    backups.write(file, yard.store.url, yard.objects, home)
    yard.store.close()
    second = tmp_path / "second"
    second.mkdir()
    url = f"sqlite:///{second / 'yard.db'}"

    def refused(words: str, change: Any) -> None:
        with pytest.raises((Conflict, ConfigError), match=words):
            backups.restore(repacked(file, bad, change), url, LocalObjects(second / "objects"), second)

    refused("neither the backup nor", lambda member, data: None if "objects" in member.name else data)
    refused("is damaged", lambda member, data: data[::-1] if "objects" in member.name else data)
    refused("cut short", lambda member, data: None if member.name == "contents.json" else data)
    refused("audit chain", lambda member, data: data.replace(b"principal.created", b"principal.changed"))
    for name in ("../climbed", "predictions/../climbed", "objects/x", "yard.db/x"):
        with tarfile.open(bad, "w") as archive:
            archive.add(file, name)
        refused_as_foreign(bad, url, second)
    bad.write_bytes(os.urandom(5000))
    refused_as_foreign(bad, url, second)
    assert not (second / "yard.db").exists() and not list(second.glob(".restore-*"))
    (second / "yard.db").write_bytes(b"noise" * 1000)  # a damaged database is what one restores for
    assert backups.restore(file, url, LocalObjects(second / "objects"), second).blobs == 1


def refused_as_foreign(file: Path, url: str, home: Path) -> None:
    with pytest.raises(ConfigError, match="is no backup"):
        backups.restore(file, url, LocalObjects(home / "objects"), home)
