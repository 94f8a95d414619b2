"""Rollouts under random acts of people, the controller and rollbacks made without the server."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modelyard.deliver.deployments import offline, placement, publishing, records, rollouts
from modelyard.deliver.deployments.records import Rollout
from modelyard.domain.errors import ModelyardError
from modelyard.domain.states import TRANSITIONS, RolloutState
from modelyard.events import audit, log
from modelyard.governance import tokens
from modelyard.registry import approvals
from tests.unit.deliver.deployments.test_rollouts import CANARY, Delivery

SHARES = (0.1, 0.5)


class Rollouts(RuleBasedStateMachine):
    """What must hold whoever does what: one rollout at a time, legal moves, only approved versions get traffic."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="yard-")
        self.home = Path(self.folder.name)
        self.house = Delivery(f"sqlite:///{self.home}/yard.db", CANARY)
        self.token: str = self.house.do(lambda conn: tokens.issue(conn, "mona", actor="mona"))
        self.stale: list[Rollout] = []
        self.states: dict[str, RolloutState] = {}

    def attempt(self, work: Any) -> bool:
        try:
            self.house.do(work)
        except ModelyardError:
            return False
        return True

    def seen(self, old: bool) -> Rollout | None:
        """What an actor believes the rollout to be: the truth, or something it read earlier."""
        now = self.house.active()
        if now is not None:
            self.stale.append(now)
        return self.stale[0] if old and self.stale else now

    @rule()
    def approve(self) -> None:
        if self.house.see(lambda conn: len(approvals.find(conn))) < 12:
            self.house.approved()

    @rule(old=st.booleans())
    def start(self, old: bool) -> None:
        rollout = self.seen(old)
        if rollout is not None:
            self.attempt(lambda conn: rollouts.move(conn, rollout, RolloutState.STARTING, "rollout.started"))

    @rule(old=st.booleans())
    def step(self, old: bool) -> None:
        rollout = self.seen(old)
        if rollout is not None and rollout.step + 1 < len(SHARES):
            values = {"step": rollout.step + 1, "share": SHARES[rollout.step + 1]}
            self.attempt(lambda conn: rollouts.move(conn, rollout, RolloutState.SHIFTING, "rollout.step", **values))

    @rule(old=st.booleans(), what=st.sampled_from(["pause", "resume", "promote", "complete", "abort"]))
    def steer(self, old: bool, what: str) -> None:
        rollout = self.seen(old)
        if rollout is None:
            return
        project = self.house.project
        works: dict[str, Any] = {
            "pause": lambda conn: rollouts.move(conn, rollout, RolloutState.PAUSED, "rollout.paused", reason="x"),
            "resume": lambda conn: rollouts.resume(conn, rollout, actor="mona", reason="x"),
            "promote": lambda conn: rollouts.promote(conn, project, rollout, actor="mona", reason="x"),
            "complete": lambda conn: rollouts.complete(conn, project, rollout),
            "abort": lambda conn: rollouts.abort(conn, rollout, "x"),
        }
        self.attempt(works[what])

    @rule()
    def roll_back(self) -> None:
        before = self.house.see(lambda conn: records.find_endpoint(conn, "production", "m"))
        active = self.house.active()
        shared = active is not None and active.share > 0
        done = self.attempt(
            lambda conn: rollouts.rollback(conn, self.house.project, "production", "m", "x", actor="mona")
        )
        if done and before is not None and before.previous and not shared:
            assert self.house.endpoint().live == before.previous

    def publish(self) -> None:
        wanted = self.house.see(lambda conn: publishing.read(conn, "production"))
        placement.write(self.home, wanted.placement, lambda _: True)

    def routed(self) -> dict[str, float]:
        routing = json.loads((self.home / "serving" / "production" / "routing.json").read_text())
        return {item["deployment"]: item["weight"] for item in routing["endpoints"]["m"]["routes"]}

    @precondition(lambda self: self.house.see(lambda conn: records.find_endpoint(conn, "production", "m")))
    @rule(twice=st.booleans(), meanwhile=st.booleans(), kind=st.sampled_from(["rollback", "abort"]))
    def take_back_without_the_server(self, twice: bool, meanwhile: bool, kind: offline.Kind) -> None:
        """The server is away; what the gateway then follows is what the database says after it is back."""
        self.publish()
        since = offline.turns(self.home, "production")
        older = self.house.see(lambda conn: publishing.read(conn, "production")).placement
        try:
            offline.take_back(self.home, "production", "m", "night", self.token, kind)
        except ModelyardError:
            return
        after = self.routed()
        if meanwhile:  # the server did the same by itself, just before it went away
            active = self.house.active()
            if kind == "abort" and active is not None:
                self.attempt(lambda conn: rollouts.abort(conn, active, "x", actor="mona"))
            elif kind == "rollback":
                self.attempt(
                    lambda conn: rollouts.rollback(conn, self.house.project, "production", "m", "x", actor="mona")
                )
        for path, operation in offline.pending(self.home, "production"):
            for _ in range(1 + twice):  # killed between the commit and forgetting the file
                self.house.do(lambda conn, o=operation: offline.apply(conn, self.house.project, "production", o))
            path.unlink()
        assert not offline.publish(self.home, older, lambda _: True, since)  # a turn that had begun before
        self.publish()
        live = {deployment for deployment, weight in after.items() if weight > 0}
        assert {deployment for deployment, weight in self.routed().items() if weight > 0} == live

    @invariant()
    def one_rollout_is_under_way_at_most(self) -> None:
        found = self.house.see(lambda conn: records.history(conn, "production", "m", 1000))
        assert sum(rollout.active for rollout in found) <= 1
        for rollout in found:
            before = self.states.get(rollout.id, rollout.state)
            assert before is rollout.state or self.reachable(before, rollout.state)
            self.states[rollout.id] = rollout.state

    def reachable(self, before: RolloutState, after: RolloutState) -> bool:
        table = TRANSITIONS[RolloutState]
        reached, edge = {before}, [before]
        while edge:
            edge = [state for item in edge for state in table[item] if state not in reached]  # type: ignore[misc]
            reached |= set(edge)
        return after in reached

    @invariant()
    def only_approved_versions_get_traffic(self) -> None:
        endpoint = self.house.see(lambda conn: records.find_endpoint(conn, "production", "m"))
        rollout = self.house.active()
        for deployment in (endpoint.live if endpoint else None, rollout.to_deployment if rollout else None):
            if deployment is not None:
                number = self.house.version_of(deployment)
                assert number is not None and self.house.holds(number)

    @invariant()
    def the_champion_is_who_serves(self) -> None:
        endpoint = self.house.see(lambda conn: records.find_endpoint(conn, "production", "m"))
        if endpoint is not None and endpoint.live is not None:
            assert self.house.champion() == self.house.live
            assert endpoint.live != endpoint.previous

    @invariant()
    def the_chain_holds(self) -> None:
        assert self.house.see(audit.verify).intact
        ends = self.house.see(lambda conn: log.read(conn, types=["rollout.completed", "rollout.aborted"]))
        ended = [event.data["rollout"] for event in ends]
        assert len(ended) == len(set(ended))

    def teardown(self) -> None:
        self.house.close()
        self.folder.cleanup()


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(max_examples=6, stateful_step_count=20, deadline=None)
