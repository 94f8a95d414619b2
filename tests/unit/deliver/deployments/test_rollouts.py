"""Deployments, rollouts and rollbacks on the database alone: what changes, what is refused, what is told."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from modelyard.deliver.deployments import offline, placement, publishing, records, rollouts, turning
from modelyard.deliver.deployments import subscribers as delivery
from modelyard.deliver.deployments.records import Endpoint, Rollout
from modelyard.domain.errors import Conflict, Forbidden, NotFound
from modelyard.domain.states import RolloutState
from modelyard.events import log
from modelyard.governance import tokens
from modelyard.kit.clock import now_ms
from modelyard.kit.hashing import sha256_hex
from modelyard.registry import evidence, versions
from modelyard.store.tables import delivery as tables
from tests.unit.registry.house import PROJECT, House

CANARY = PROJECT.replace(
    "approvals = 1", 'approvals = 1\nrollout = { strategy = "canary", steps = ["10%", "50%"], bake = "1s" }'
)
STARTING, SHIFTING, PAUSED = RolloutState.STARTING, RolloutState.SHIFTING, RolloutState.PAUSED


class Delivery(House):
    """A registry with deployments; the controller's part is played by the tests."""

    def __init__(self, url: str, project: str = CANARY) -> None:
        super().__init__(url, project)
        delivery.subscribe(self.dispatcher, self.project)

    def approved(self) -> int:
        number = self.register()
        self.decide(number, "boris")
        return number

    def active(self, environment: str = "production") -> Rollout | None:
        return self.see(lambda conn: records.active_rollout(conn, environment, "m"))

    def endpoint(self, environment: str = "production") -> Endpoint:
        return self.see(lambda conn: records.get_endpoint(conn, environment, "m"))

    def version_of(self, deployment: str | None) -> int | None:
        return self.see(lambda conn: records.get(conn, deployment).version) if deployment else None

    @property
    def live(self) -> int | None:
        return self.version_of(self.endpoint().live)

    @property
    def previous(self) -> int | None:
        return self.version_of(self.endpoint().previous)

    def to_step(self, step: int = 0) -> Rollout:
        """The rollout under way, brought to a step of the canary."""
        rollout = self.active()
        assert rollout is not None
        self.do(lambda conn: rollouts.move(conn, rollout, STARTING, "rollout.started"))
        for index in range(step + 1):
            seen = self.active()
            values = {"step": index, "share": (0.1, 0.5)[index]}
            self.do(
                lambda conn, seen=seen, values=values: rollouts.move(conn, seen, SHIFTING, "rollout.step", **values)
            )
        found = self.active()
        assert found is not None
        return found

    def complete(self) -> None:
        rollout = self.to_step()
        self.do(lambda conn: rollouts.complete(conn, self.project, rollout))

    def serve(self) -> int:
        number = self.approved()
        self.complete()
        return number

    def roll_back(self, **more: Any) -> dict[str, Any]:
        return self.do(
            lambda conn: rollouts.rollback(conn, self.project, "production", "m", "why not", actor="otto", **more)
        )

    def champion(self) -> int:
        return self.see(lambda conn: versions.resolve(conn, "m", "champion")).version


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Delivery]:
    opened = Delivery(f"sqlite:///{tmp_path / 'yard.db'}")
    yield opened
    opened.close()


def told(house: Delivery, kind: str) -> list[dict[str, Any]]:
    return [event.data for event in house.see(lambda conn: log.read(conn, types=[kind]))]


def test_an_approval_begins_a_rollout_and_says_what_is_placed(house: Delivery) -> None:
    number = house.approved()
    rollout = house.active()
    assert rollout is not None and rollout.state is RolloutState.PENDING and house.live is None
    (made,) = [data for data in told(house, "deployment.created") if data["environment"] == "production"]
    assert made["version"] == number and made["digest"] and made["approval"] and made["approved"] == "people"
    chain = house.see(lambda conn: log.causes(conn, rollout.cause or ""))
    assert [event.type for event in chain][-2:] == ["version.approved", "deployment.created"]


def test_completing_makes_champion_and_keeps_the_one_before_warm(house: Delivery) -> None:
    one, two = house.serve(), house.serve()
    assert (house.live, house.previous, house.champion()) == (two, one, two)
    assert house.endpoint().watch == {
        "deployment": house.endpoint().live,
        "since": pytest.approx(now_ms(), abs=60_000),
        "baseline": None,
    }


def test_the_newest_approval_wins(house: Delivery) -> None:
    house.serve()
    two = house.approved()
    house.to_step()
    three = house.approved()
    rollout = house.active()
    assert rollout is not None and house.version_of(rollout.to_deployment) == three
    assert told(house, "rollout.aborted")[-1]["reason"] == f"superseded by v{three}"
    assert told(house, "rollout.aborted")[-1]["version"] == two


def test_what_serves_or_is_on_its_way_is_not_deployed_again(house: Delivery) -> None:
    one = house.serve()

    def deploy(number: int) -> Any:
        return house.do(
            lambda conn: rollouts.deploy(conn, house.project, "m", number, "production", actor="otto", cause=None)
        )

    with pytest.raises(Conflict, match="serves in production already"):
        deploy(one)
    two = house.approved()
    with pytest.raises(Conflict, match="on its way"):
        deploy(two)
    with pytest.raises(NotFound, match="moon"):
        house.do(lambda conn: rollouts.deploy(conn, house.project, "m", two, "moon", actor="otto", cause=None))


def test_nothing_is_deployed_without_an_approval(house: Delivery) -> None:
    number = house.register()
    with pytest.raises(Forbidden, match=f"m v{number} has no approval for production"):
        house.do(
            lambda conn: rollouts.deploy(conn, house.project, "m", number, "production", actor="otto", cause=None)
        )
    assert house.active() is None


def test_a_voided_approval_takes_its_rollout_back(house: Delivery) -> None:
    one, two = house.serve(), house.approved()
    house.to_step()
    house.attach(two, "pipeline", 0.71)
    assert house.active() is None and house.live == one
    assert told(house, "rollout.aborted")[-1]["reason"] == "its approval was voided"


def test_old_knowledge_changes_nothing(house: Delivery) -> None:
    """The controller read a rollout, a person aborted it, the controller acts: the abort stands."""
    one = house.serve()
    house.approved()
    seen = house.to_step()
    house.do(lambda conn: rollouts.abort(conn, seen, "by otto: no"))
    for work in (
        lambda conn: rollouts.move(conn, seen, SHIFTING, "rollout.step", step=1, share=0.5),
        lambda conn: rollouts.complete(conn, house.project, seen),
        lambda conn: rollouts.abort(conn, seen, "again"),
    ):
        with pytest.raises(Conflict, match="is aborted by now"):
            house.do(work)
    assert house.live == one and house.active() is None


def test_a_step_taken_twice_is_taken_once(house: Delivery) -> None:
    house.serve()
    house.approved()
    seen = house.to_step()
    house.do(lambda conn: rollouts.move(conn, seen, SHIFTING, "rollout.step", step=1, share=0.5))
    with pytest.raises(Conflict):
        house.do(lambda conn: rollouts.move(conn, seen, SHIFTING, "rollout.step", step=1, share=0.5))
    assert len([data for data in told(house, "rollout.step") if data["share"] == 0.5]) == 1


def test_a_rollback_swaps_with_the_warm_one(house: Delivery) -> None:
    one, two = house.serve(), house.serve()
    assert house.roll_back()["how"] == "warm"
    assert (house.live, house.previous, house.champion()) == (one, two, one)
    assert house.endpoint().watch is None
    assert told(house, "rollback.completed")[-1] | {"reason": ""} == {
        **{"environment": "production", "model": "m", "from": two, "to": one, "how": "warm", "reason": ""}
    }
    house.roll_back()
    assert (house.live, house.previous, house.champion()) == (two, one, two)


def test_the_watch_rolls_back_once_however_often_it_looks(house: Delivery) -> None:
    """A look that began before the rollback and ends after it must not bring the bad version back."""
    one, two = house.serve(), house.serve()
    bad = house.endpoint().live
    house.roll_back(away=bad)
    with pytest.raises(Conflict, match="serves another deployment by now"):
        house.roll_back(away=bad)
    assert (house.live, house.previous) == (one, two)


def test_a_rollback_during_a_rollout_aborts_it(house: Delivery) -> None:
    one = house.serve()
    two = house.approved()
    house.to_step()
    done = house.roll_back()
    assert (done["how"], done["from"], done["to"]) == ("aborted", two, one)
    assert house.live == one and house.active() is None


def test_a_rollback_while_the_next_one_only_warms_up_goes_to_the_one_before(house: Delivery) -> None:
    one, two = house.serve(), house.serve()
    house.approved()
    done = house.roll_back()
    assert (done["how"], done["from"], done["to"]) == ("warm", two, one)
    assert house.live == one and house.active() is None


def test_a_rollback_after_the_warm_time_deploys_the_last_good_one_at_once(house: Delivery) -> None:
    one, two = house.serve(), house.serve()
    house.do(lambda conn: conn.execute(update(tables.endpoints).values(warm_until=now_ms() - 1)))
    house.do(lambda conn: rollouts.retire_cold(conn, records.get_endpoint(conn, "production", "m")))
    assert house.previous is None and told(house, "deployment.retired")[-1]["version"] == one
    done = house.roll_back()
    rollout = house.active()
    assert done["how"] == "cold" and done["to"] == one and rollout is not None
    assert rollout.kind == "rollback" and records.policy_of(rollout).strategy == "all-at-once"
    house.complete()
    assert (house.live, house.previous) == (one, two)


def test_there_must_be_something_to_go_back_to(house: Delivery) -> None:
    house.serve()
    with pytest.raises(Conflict, match="no earlier deployment"):
        house.roll_back()
    with pytest.raises(NotFound):
        house.do(lambda conn: rollouts.rollback(conn, house.project, "production", "x", "why", actor="otto"))


def test_a_version_whose_approval_was_voided_is_not_rolled_back_to(house: Delivery) -> None:
    one, two = house.serve(), house.serve()
    content = {"metrics": {"roc_auc": 0.71}}
    house.do(lambda conn: evidence.attach(conn, "m", one, "evaluation", content, actor="pipeline"))
    with pytest.raises(Forbidden, match="no approval"):
        house.roll_back()
    assert house.live == two


def test_the_gateways_files_alone_go_back_to_an_approved_version_only(house: Delivery, tmp_path: Path) -> None:
    one, two = house.serve(), house.serve()
    token = house.do(lambda conn: tokens.issue(conn, "mona", actor="mona"))

    def publish() -> None:
        wanted = house.see(lambda conn: publishing.read(conn, "production"))
        placement.write(tmp_path, wanted.placement, lambda _: True)

    publish()
    assert offline.take_back(tmp_path, "production", "m", "night", token, to=one) == (two, one)
    for _ in range(2):  # asked again, or by somebody else who saw v2 answer: nothing is done
        assert offline.take_back(tmp_path, "production", "m", "night", token, to=one) == (None, one)
    assert len(offline.pending(tmp_path, "production")) == 1
    assert turning.leads_to(tmp_path, "production", "m") == two
    with pytest.raises(Conflict, match="routed otherwise by now"):
        offline.take_back(tmp_path, "production", "m", "night", token, to=7)
    house.do(lambda conn: evidence.attach(conn, "m", one, "evaluation", {"metrics": {"n": 0.7}}, actor="pipeline"))
    publish()
    with pytest.raises(Forbidden, match="v1, where production/m would go back to, has lost its approval"):
        offline.take_back(tmp_path, "production", "m", "night", token)
    routing = json.loads((tmp_path / "serving" / "production" / "routing.json").read_text())
    assert {r["version"]: r["weight"] for r in routing["endpoints"]["m"]["routes"]} == {one: 0.0, two: 1.0}


def test_gateways_know_the_tokens_that_may_not_invoke(house: Delivery) -> None:
    house.serve()
    token = {name: house.do(lambda conn, name=name: tokens.issue(conn, name, actor=name)) for name in ("ana", "mona")}
    placed = house.see(lambda conn: publishing.read(conn, "production")).placement
    assert sha256_hex(token["mona"].encode()) in placed.invokers
    assert placed.others == [sha256_hex(token["ana"].encode())]


def test_a_placement_made_before_a_rollback_is_not_published_after_it(house: Delivery, tmp_path: Path) -> None:
    one, two = house.serve(), house.serve()
    token = house.do(lambda conn: tokens.issue(conn, "mona", actor="mona"))

    def placed() -> tuple[int, placement.Placement]:
        since = offline.turns(tmp_path, "production")
        return since, house.see(lambda conn: publishing.read(conn, "production")).placement

    def publish(since: int, wanted: placement.Placement) -> bool:
        return offline.publish(tmp_path, wanted, lambda _: True, since)

    def routed() -> set[int]:
        routes = turning.read(tmp_path, "production", "routing")["endpoints"]["m"]["routes"]
        return {route["version"] for route in routes if route["weight"] > 0}

    assert publish(*placed()) and routed() == {two}
    older = placed()
    done: list[offline.Operation] = []
    for expected in (one, two, one):
        offline.take_back(tmp_path, "production", "m", "night", token)
        ((path, operation),) = offline.pending(tmp_path, "production")
        assert not publish(*placed())  # the database does not know of it yet
        done.insert(0, operation)
        for late in done:  # whoever read the file earlier may come late, and changes nothing
            house.do(lambda conn, o=late: offline.apply(conn, house.project, "production", o))
        path.unlink()
        assert not publish(*older) and routed() == {expected} and house.live == expected
        assert publish(*placed()) and routed() == {expected}
    assert len(told(house, "rollback.completed")) == 3


def test_who_saw_another_version_serve_rolls_nothing_back(house: Delivery) -> None:
    one, two = house.serve(), house.serve()
    assert house.roll_back(to=one)["how"] == "warm"
    assert house.roll_back(to=one)["how"] == "already"
    with pytest.raises(Conflict, match=f"leads to v{two} by now"):
        house.roll_back(to=7)
    assert house.live == one and len(told(house, "rollback.completed")) == 1
    three = house.approved()
    house.to_step()
    assert house.roll_back(to=one)["how"] == "aborted"  # a rollout had some of its traffic
    assert (house.live, house.active(), three) == (one, None, 3)


def test_promote_needs_a_warm_worker_and_resume_a_pause(house: Delivery) -> None:
    house.serve()
    two = house.approved()
    pending = house.active()
    assert pending is not None
    with pytest.raises(Conflict, match="has not answered yet"):
        house.do(lambda conn: rollouts.promote(conn, house.project, pending, actor="otto", reason="now"))
    shifting = house.to_step()
    with pytest.raises(Conflict, match="not paused"):
        house.do(lambda conn: rollouts.resume(conn, shifting, actor="otto", reason="go"))
    house.do(lambda conn: rollouts.pause(conn, shifting, actor="otto", reason="hm"))
    paused = house.active()
    assert paused is not None and paused.share == 0.1
    with pytest.raises(Conflict, match="paused already: by otto: hm"):
        house.do(lambda conn: rollouts.pause(conn, paused, actor="ada", reason="what is this"))
    house.do(lambda conn: rollouts.promote(conn, house.project, paused, actor="otto", reason="now"))
    assert house.live == two
    completed = house.see(lambda conn: log.read(conn, types=["rollout.completed"], newest_first=True, limit=1))[0]
    assert completed.actor == "otto" and completed.data["why"] == "now"


def test_a_freeze_keeps_a_person_from_widening_too(tmp_path: Path) -> None:
    frozen = CANARY.replace(
        "[environments.production]", '[environments.production]\nfreeze = ["2000-01-01 - 2999-12-31"]'
    )
    house = Delivery(f"sqlite:///{tmp_path / 'yard.db'}", frozen)
    house.serve()
    house.approved()
    shifting = house.to_step()
    with pytest.raises(Conflict, match="production is frozen until 3000-01-01 00:00 UTC"):
        house.do(lambda conn: rollouts.promote(conn, house.project, shifting, actor="otto", reason="now"))
    assert house.active() == shifting
    house.do(lambda conn: rollouts.move(conn, shifting, SHIFTING, "rollout.step", share=1.0))
    whole = house.active()
    assert whole is not None
    house.do(lambda conn: rollouts.promote(conn, house.project, whole, actor="otto", reason="it has it all"))
    assert house.active() is None
    house.close()


def test_a_critical_alarm_rolls_back_where_the_model_says_so(tmp_path: Path) -> None:
    monitor = '[models.m.monitor]\nwindow = { rows = 100 }\non_alert = ["rollback"]\n'
    house = Delivery(
        f"sqlite:///{tmp_path / 'yard.db'}",
        CANARY.replace("[environments.staging]", monitor + "[environments.staging]"),
    )
    one, two = house.serve(), house.serve()

    def alarm(version: int, severity: str) -> None:
        data = {"environment": "production", "endpoint": "m", "model": "m", "version": version}
        data |= {"kind": "model_quality", "severity": severity, "title": "AUC fell"}
        house.do(lambda conn: log.append(conn, "alert.opened", "alert/1", "modelyard", data))
        house.settle()

    alarm(two, "warning")
    alarm(one, "critical")
    assert house.live == two
    alarm(two, "critical")
    assert house.live == one
    assert told(house, "rollback.completed")[-1]["reason"] == "alarm: AUC fell"
    alarm(one, "critical")  # back and forth helps nobody
    assert house.live == one and len(told(house, "rollback.completed")) == 1
    house.close()


def test_the_routing_of_each_moment(house: Delivery) -> None:
    def weights() -> dict[int | None, tuple[str, float]]:
        wanted = house.see(lambda conn: publishing.read(conn, "production"))
        found = wanted.placement.endpoints["m"].routes
        return {house.version_of(item.deployment): (item.role, item.weight) for item in found}

    one = house.approved()
    assert weights() == {one: ("next", 0.0)}
    house.complete()
    assert weights() == {one: ("live", 1.0)}
    two = house.approved()
    assert weights() == {one: ("live", 1.0), two: ("next", 0.0)}
    house.to_step(1)
    assert weights() == {one: ("live", 0.5), two: ("next", 0.5)}
    rollout = house.active()
    house.do(lambda conn: rollouts.complete(conn, house.project, rollout))
    assert weights() == {one: ("previous", 0.0), two: ("live", 1.0)}
