"""A throwaway PostgreSQL server: a real cluster in a temporary folder, gone after the tests."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import free_port

FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def binary(name: str) -> str:
    """The path of a PostgreSQL server program; skips the test where there is none, unless CI promised one."""
    found = next((str(folder / name) for folder in FOLDERS if (folder / name).exists()), shutil.which(name))
    if found is None:
        if os.environ.get("CI"):
            raise AssertionError("CI needs PostgreSQL's server programs (Debian: apt-get install postgresql).")
        pytest.skip("PostgreSQL's server programs are not installed")
    return found


def as_postgres(command: Sequence[str]) -> list[str]:
    """PostgreSQL refuses to run as root: then its own user runs it."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else list(command)


@dataclass
class Cluster:
    folder: Path
    port: int
    databases: int = 0

    def admin(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(f"host=127.0.0.1 port={self.port} user=yard dbname=postgres", autocommit=True) as link:
            link.execute(statement.encode())

    def new_database(self) -> str:
        """The URL of an empty database."""
        self.databases += 1
        name = f"yard_{self.databases}"
        self.admin(f"CREATE DATABASE {name}")
        return f"postgresql://yard@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        command = [binary("pg_ctl"), "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop"]
        subprocess.run(as_postgres(command), check=True, capture_output=True, cwd="/")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=200"
        command = [binary("pg_ctl"), "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-w"]
        subprocess.run(
            as_postgres([*command, "-o", options, "start"]), check=True, stdout=subprocess.DEVNULL, cwd="/"
        )


def make_cluster(folder: Path) -> Cluster:
    """A running server that trusts loopback."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    port = free_port()
    command = [binary("initdb"), "-D", str(folder / "data"), "-U", "yard", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(as_postgres([*command, "--locale=C.UTF-8"]), check=True, capture_output=True, cwd="/")
    cluster = Cluster(folder, port)
    cluster.start()
    return cluster


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A cluster in a folder of its own; it is stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="modelyard-pg-", dir="/tmp"))
    running = make_cluster(folder)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)
