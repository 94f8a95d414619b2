"""A registry without a server: people, versions and evidence put in by the registry's own functions."""

from typing import Any

from sqlalchemy import Connection

from modelyard.domain.permissions import Principal
from modelyard.domain.project import Project, parse_project
from modelyard.events.dispatch import Dispatcher
from modelyard.governance import principals
from modelyard.registry import approvals, evidence, models, subscribers, versions
from modelyard.registry.approvals import Approval
from modelyard.registry.versions import ManifestFile
from modelyard.store.database import Store

PROJECT = """
[project]
name = "tests"

[models.m.gates]
roc_auc = { min = 0.7 }

[models.m]
task = "binary"

[environments.staging]
approval = "gates"

[environments.production]
approvals = 1

[environments.production.break_glass]
expires = "1h"
notify = ["oncall"]

[notify.oncall]
url = "json://127.0.0.1/"
"""
PEOPLE = {
    "ana": "data-scientist",
    "boris": "approver",
    "clara": "approver",
    "dora": "approver",
    "mona": "mlops",
    "audrey": "auditor",
}


class House:
    """A store with people, the registry's subscribers, and short words for what they do."""

    def __init__(self, url: str, project: str = PROJECT) -> None:
        self.store = Store(url)
        self.project: Project = parse_project(project)
        self.dispatcher = Dispatcher()
        subscribers.subscribe(self.dispatcher, self.project)
        self.do(lambda conn: principals.create(conn, "owner", "person", ["admin"], actor="modelyard"))
        for name, role in PEOPLE.items():
            self.hire(name, role)
        self.hire("pipeline", "service-pipeline", kind="service", actor="modelyard")
        self.hire("anas-robot", "service-pipeline", kind="service", behind="ana")
        self.do(lambda conn: models.create(conn, "m", actor="ana"))

    def do(self, work: Any) -> Any:
        return self.store.write_now(work)

    def see(self, work: Any) -> Any:
        return self.store.read_now(work)

    def hire(self, name: str, *roles: str, kind: str = "person", actor: str = "owner", **more: Any) -> None:
        self.do(lambda conn: principals.create(conn, name, kind, list(roles), actor=actor, **more))

    def who(self, name: str) -> Principal:
        return self.see(lambda conn: principals.get(conn, name))

    def settle(self) -> None:
        """Hand every subscriber what it has not seen."""
        while any(
            self.do(lambda conn, name=name: self.dispatcher.run_pending(conn, name))
            for name in self.dispatcher.subscribers
        ):
            pass

    def register(self, registrar: str = "ana", author: str | None = None, auc: float | None = 0.8) -> int:
        """A version with an evaluation of this AUC; None: without any evidence."""
        file = ManifestFile("MLmodel", "a" * 64, 1)

        def work(conn: Connection) -> int:
            actor = principals.get(conn, registrar)
            made = versions.register(conn, "m", [file], actor=actor, source="models:/m-1", author=author or registrar)
            return made.version

        number: int = self.do(work)
        if auc is not None:
            self.attach(number, registrar, auc)
        return number

    def attach(self, number: int, actor: str, auc: float) -> None:
        content = {"metrics": {"roc_auc": auc}}
        self.do(lambda conn: evidence.attach(conn, "m", number, "evaluation", content, actor=actor))
        self.settle()

    def decide(self, number: int, name: str, verdict: str = "approve", environment: str = "production") -> Approval:
        principal = self.who(name)
        made = self.do(
            lambda conn: approvals.decide(
                conn, self.project, "m", number, environment, verdict, "looked at it", principal
            )
        )
        self.settle()
        return made

    def holds(self, number: int, environment: str = "production") -> bool:
        return self.see(lambda conn: approvals.approved(conn, "m", number, environment)) is not None

    def close(self) -> None:
        self.store.close()
