"""Every call that changes the registry leaves an event in the transaction that changes it, or nothing at all.

The calls are those of the route table, by which the command line, the SDK, MLflow's clients over HTTP and `modelyard://`
all come; a new one fails here until it is listed.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, select
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from modelyard.client.transport import InProcessTransport
from modelyard.server import app
from modelyard.server.api import approvals, imports, models
from modelyard.server.bootstrap import open_yard
from modelyard.server.mlflow_rest import registry
from modelyard.server.pages import version as version_page
from modelyard.server.routes import Route
from modelyard.server.settings import Settings
from modelyard.store.tables import events as events_tables
from modelyard.store.tables import registry as registry_tables
from modelyard.store.tables.base import metadata

TABLES = {table.name for table in metadata.sorted_tables if vars(registry_tables).get(table.name) is table}
HOUSES = (registry, models, approvals, imports, version_page)
ELSEWHERE = re.compile(r"/imports/(experiments|runs|logged-models)|/deploy$|/get-latest-versions$|^/ajax-api/")
"""Routes of these houses that change no registry, and those that are there twice."""
CHANGED = re.compile(r"\s*(?:INSERT INTO|UPDATE|DELETE FROM)\s+\"?(\w+)", re.IGNORECASE)
PROJECT = """
[project]
name = "tests"

[models.m]
task = "binary"

[models.m.gates]
roc_auc = { min = 0.5 }

[environments.production]
approvals = 1

[environments.production.break_glass]
expires = "1h"
notify = ["oncall"]

[notify.oncall]
url = "json://127.0.0.1/"
"""
MLFLOW, NATIVE = "/api/2.0/mlflow/", "/api/v1/"
ONE = {"name": "m", "version": "1"}
GOOD = {"metrics": {"roc_auc": 1.0}}
CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", MLFLOW + "registered-models/create", {"name": "m"}),
    ("PATCH", MLFLOW + "registered-models/update", {"name": "m", "description": "d"}),
    ("POST", MLFLOW + "registered-models/set-tag", {"name": "m", "key": "k", "value": "v"}),
    ("DELETE", MLFLOW + "registered-models/delete-tag", {"name": "m", "key": "k"}),
    ("POST", MLFLOW + "model-versions/create", {"name": "m", "source": "models:/{logged}"}),
    ("PATCH", MLFLOW + "model-versions/update", {**ONE, "description": "d"}),
    ("POST", MLFLOW + "model-versions/set-tag", {**ONE, "key": "k", "value": "v"}),
    ("DELETE", MLFLOW + "model-versions/delete-tag", {**ONE, "key": "k"}),
    ("POST", MLFLOW + "model-versions/transition-stage", {**ONE, "stage": "Staging"}),
    ("POST", MLFLOW + "registered-models/alias", {**ONE, "alias": "best"}),
    ("DELETE", MLFLOW + "registered-models/alias", {"name": "m", "alias": "best"}),
    *[("POST", NATIVE + "models/m/versions", {"source": "models:/{logged}", "evaluation": GOOD})] * 3,
    ("POST", NATIVE + "models/m/versions/1/evidence", {"kind": "scan", "content": {"found": 0}}),
    ("PUT", NATIVE + "models/m/aliases/best", {"version": 2}),
    ("POST", NATIVE + "standing-policies", {"model": "m", "environment": "production", "comment": "as ever"}),
    ("DELETE", NATIVE + "standing-policies/{policy}", {}),
    (
        "POST",
        NATIVE + "models/m/versions/2/decisions",
        {"environment": "production", "verdict": "reject", "comment": "no"},
    ),
    ("POST", "/models/m/versions/3/decide", {"environment": "production", "verdict": "approve", "comment": "good"}),
    (
        "POST",
        NATIVE + "models/m/versions/4/break-glass",
        {"environment": "production", "reason": "the other one answers nonsense"},
    ),
    ("POST", NATIVE + "imports/models", {"name": "brought", "description": "", "tags": {}}),
    (
        "POST",
        NATIVE + "imports/models/brought/versions",
        {
            "number": 3,
            "source": "s3://b/m",
            "run_id": None,
            "model_id": None,
            "description": "",
            "tags": {},
            "stage": "Production",
            "user": "ana",
            "created_at": 1,
        },
    ),
    ("POST", MLFLOW + "registered-models/rename", {"name": "brought", "new_name": "moved"}),
    ("DELETE", MLFLOW + "model-versions/delete", ONE),
    ("DELETE", MLFLOW + "registered-models/delete", {"name": "moved"}),
]


@dataclass
class Watch:
    """Sees every statement and every commit of this process's databases."""

    broken: bool = False
    """Whether commits fail: a full disk, a lost server."""
    touched: dict[int, set[str]] = field(default_factory=dict[int, set[str]])
    commits: list[set[str]] = field(default_factory=list[set[str]])

    def connected(self, connection: Any, _: Any) -> None:
        tables = self.touched[id(connection)] = set()
        connection.set_trace_callback(lambda statement: self.statement(tables, statement))

    def statement(self, tables: set[str], statement: str) -> None:
        if found := CHANGED.match(statement):
            tables.add(found[1].lower())

    def commit(self, conn: Connection) -> None:
        tables = self.touched[id(conn.connection.dbapi_connection)]
        if self.broken and tables & TABLES:
            raise OSError("no space left on device")
        self.commits.append(set(tables))
        tables.clear()

    def rollback(self, conn: Connection) -> None:
        self.touched[id(conn.connection.dbapi_connection)].clear()


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    hooks: list[tuple[Any, str, Any]] = [(Pool, "connect", made.connected)]
    hooks += [(Engine, "commit", made.commit), (Engine, "rollback", made.rollback)]
    for place, name, hook in hooks:
        event.listen(place, name, hook)
    yield made
    for place, name, hook in hooks:
        event.remove(place, name, hook)


def changing() -> list[Route]:
    """Routes of the registry that change something, each once."""
    houses = {house.__name__ for house in HOUSES}
    return [
        route
        for route in app.ROUTES
        if route.handler.__module__ in houses and route.method != "GET" and not ELSEWHERE.search(route.path)
    ]


def test_each_change_is_an_event_of_its_transaction(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "modelyard.toml").write_text(PROJECT)
    yard = open_yard(tmp_path / ".modelyard", tmp_path, Settings(loops=False))
    transport = InProcessTransport(app.Embedded(yard))
    owner = json.loads((yard.home / "credentials.json").read_text())["local"]["token"]
    names: dict[str, str] = {}

    def ask(method: str, path: str, body: Any) -> tuple[int, Any]:
        for name, value in names.items():
            path, body = (
                path.replace(f"{{{name}}}", value),
                json.loads(json.dumps(body).replace(f"{{{name}}}", value)),
            )
        form = not path.startswith("/api/")
        media = "application/x-www-form-urlencoded" if form else "application/json"
        data = "&".join(f"{k}={v}" for k, v in body.items()) if form else json.dumps(body)
        token = names["boris"] if "/deci" in path else owner  # nobody decides on a version of one's own
        headers = {"authorization": f"Bearer {token}", "content-type": media}
        answer = transport.send(method, path, {}, headers, data.encode())
        return answer.status, json.loads(answer.body) if answer.body.startswith(b"{") else {}

    def rows() -> dict[str, list[Any]]:
        def work(conn: Connection) -> dict[str, list[Any]]:
            tables = [metadata.tables[name] for name in sorted(TABLES)] + [events_tables.events]
            return {table.name: list(map(tuple, conn.execute(select(table)))) for table in tables}

        return yard.store.read_now(work)

    ask("POST", "/api/v1/principals", {"name": "boris", "roles": ["approver"]})
    names["boris"] = ask("POST", "/api/v1/tokens", {"principal": "boris"})[1]["token"]
    status, made = ask("POST", MLFLOW + "logged-models", {"experiment_id": "0", "name": "m"})
    assert status == 200
    names["logged"] = made["model"]["info"]["model_id"]
    place = f"/api/2.0/mlflow-artifacts/artifacts/0/models/{names['logged']}/artifacts/MLmodel"
    assert transport.send("PUT", place, {}, {"authorization": f"Bearer {owner}"}, b"flavors: {}").status == 200
    for method, path, body in CALLS:
        before, watch.broken = rows(), True
        status, _ = ask(method, path, body)
        assert status >= 500, (path, status)
        assert rows() == before, f"{path} left something though its transaction failed"
        watch.broken = False
        watch.commits.clear()
        status, answer = ask(method, path, body)
        assert status in (200, 303), (path, answer)
        changes = [tables for tables in watch.commits if tables & TABLES]
        assert changes, f"{path} changed nothing"
        assert all("events" in tables for tables in changes), f"{path} changed the registry without an event"
        if path.endswith("standing-policies"):
            names["policy"] = answer["id"]
    transport.close()
    yard.store.close()


def test_each_changing_route_is_called() -> None:
    called = [(method, path.strip("/").split("/")) for method, path, _ in CALLS]

    def is_called(route: Route) -> bool:
        return any(
            method == route.method
            and len(parts) == len(route.segments)
            and all(want.startswith("{") or want == part for want, part in zip(route.segments, parts, strict=True))
            for method, parts in called
        )

    assert [f"{route.method} {route.path}" for route in changing() if not is_called(route)] == []
    assert len(changing()) > 20
