"""Approvals under random acts of people, services and evidence: what must never happen does not."""

import tempfile
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modelyard.domain.errors import ModelyardError
from modelyard.events import audit, log
from modelyard.governance import principals
from modelyard.registry import approvals, evidence, standing, versions
from tests.unit.registry.house import PROJECT, House

REGISTRARS = ("ana", "boris", "pipeline", "anas-robot", "boris-robot")
DECIDERS = ("ana", "boris", "clara", "dora", "mona", "owner", "pipeline")
NEEDED = 2


class Approvals(RuleBasedStateMachine):
    """The model is the event log: an approval in force must be explained by what was recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="yard-")
        project = PROJECT.replace("approvals = 1", f"approvals = {NEEDED}")
        self.house = House(f"sqlite:///{self.folder.name}/yard.db", project)
        self.house.do(lambda conn: principals.set_roles(conn, "boris", ["approver", "ml-engineer"], actor="owner"))
        self.house.hire("boris-robot", "service-pipeline", kind="service", behind="boris")
        self.count = 0
        self.signed: set[str] = set()

    def attempt(self, work: Any) -> Any:
        try:
            return work()
        except ModelyardError:
            return None

    @precondition(lambda self: self.count < 4)
    @rule(registrar=st.sampled_from(REGISTRARS), good=st.booleans())
    def register(self, registrar: str, good: bool) -> None:
        self.house.register(registrar, auc=0.8 if good else 0.5)
        self.count += 1

    @precondition(lambda self: self.count)
    @rule(data=st.data(), name=st.sampled_from(DECIDERS), verdict=st.sampled_from(["approve", "approve", "reject"]))
    def decide(self, data: st.DataObject, name: str, verdict: str) -> None:
        number = data.draw(st.integers(1, self.count))
        self.attempt(lambda: self.house.decide(number, name, verdict))

    @precondition(lambda self: self.count)
    @rule(data=st.data(), auc=st.sampled_from([0.5, 0.71, 0.72, 0.9]), settles=st.booleans())
    def attach(self, data: st.DataObject, auc: float, settles: bool) -> None:
        number = data.draw(st.integers(1, self.count))
        content = {"metrics": {"roc_auc": auc}}
        self.house.do(lambda conn: evidence.attach(conn, "m", number, "evaluation", content, actor="pipeline"))
        if settles:
            self.house.settle()

    @rule(name=st.sampled_from(["boris", "clara", "dora"]))
    def sign(self, name: str) -> None:
        who = self.house.who(name)
        project = self.house.project
        self.attempt(
            lambda: self.house.do(lambda conn: standing.sign(conn, project, "m", "production", "ok", 60_000, who))
        )
        self.signed.add(name)

    @rule()
    def settle(self) -> None:
        self.house.settle()

    @invariant()
    def what_holds_was_earned(self) -> None:
        for number in range(1, self.count + 1):
            version = self.house.see(lambda conn, n=number: versions.get(conn, "m", n))
            held = self.house.see(lambda conn, n=number: approvals.approved(conn, "m", n, "production"))
            if held is None:
                continue
            yes = {item.principal for item in held.decisions if item.verdict == "approve"}
            assert len(yes) >= NEEDED and len(yes) == len(held.decisions)
            assert yes <= {"boris", "clara", "dora", "owner"}
            made_by = self.house.see(
                lambda conn, v=version: principals.hands(conn, {name for name in (v.registrar, v.author) if name})
            )
            assert not yes & made_by
            if held.how == "standing":
                assert version.registrar in ("pipeline", "anas-robot", "boris-robot") and yes <= self.signed
            bound = self.house.see(lambda conn, n=number: evidence.whole_digest(conn, "m", n))
            assert held.evidence_digest == bound and held.digest == version.digest

    @invariant()
    def one_request_is_open_at_most(self) -> None:
        for number in range(1, self.count + 1):
            found = self.house.see(lambda conn, n=number: approvals.find(conn, "m", n))
            waiting = [item for item in found if item.environment == "production" and item.state == "open"]
            assert len(waiting) <= 1

    @invariant()
    def every_approval_is_in_the_chain(self) -> None:
        assert self.house.see(audit.verify).intact
        told = self.house.see(lambda conn: log.read(conn, types=["version.approved"]))
        closed = [item for item in self.house.see(approvals.find) if item.state in ("approved", "void")]
        assert len(told) <= len(closed)

    def teardown(self) -> None:
        self.house.close()
        self.folder.cleanup()


TestApprovals = Approvals.TestCase
TestApprovals.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
