"""A kill right after each side effect of delivery: wanted and running agree again, and nobody who asked is lost.

The side effects are found by reading the source: one that is new here fails the first test until it has a scenario,
or a reason why it needs none.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelyard.client.api import path
from modelyard.domain.errors import Unavailable
from tests.conftest import wait_until
from tests.faults import points
from tests.unit.deliver.deployments.house import Flow, House

PROJECT = """
[project]
name = "tests"

[environments.production]
rollout = { strategy = "canary", steps = ["50%"], bake = "4s", min_requests = 5, warm = "10m" }
abort_if = { error_rate = 0.05 }

[environments.once]
rollout = { strategy = "all-at-once", warm = "1s" }

[environments.mirrored]
rollout = { strategy = "shadow", bake = "2s", min_requests = 5 }

[environments.quiet]
rollout = { strategy = "canary", steps = ["50%"], bake = "300ms", min_requests = 1000000, warm = "10m" }
abort_if = { error_rate = 0.05 }
"""
CRASH = Path(__file__).parent / "crash"
PLACES = ("production", "once", "mirrored", "quiet")
STORY = ("deployment.created", "rollout.started", "rollout.step", "rollout.completed")


class Yard:
    """A yard whose server a scenario has killed at a point; `act` does what the kill may leave unanswered."""

    def __init__(self, house: House, at: Path) -> None:
        self.house, self._at = house, at

    def arm(self, point: points.Point) -> None:
        self._at.write_text(json.dumps({"file": point.file, "first": point.first, "last": point.last}))

    def hit(self) -> None:
        """Wait until the server was killed."""
        wait_until(lambda: not self._at.exists(), "the server to reach the point", 240)

    def disarm(self) -> None:
        self._at.unlink(missing_ok=True)

    def act(self, work: Callable[[], object]) -> None:
        """Ask once, and do not mind if the server ended over it."""
        try:
            work()
        except Unavailable:
            return

    def request(self, action: str, place: str = "production") -> None:
        """Roll back or steer, as otto."""
        where = path("environments", place, "endpoints", "m", *action.split("/"))
        self.act(lambda: self.house.client("otto").call("POST", where, body={"reason": "tests"}))

    def registered(self) -> int:
        """A version that waits for decisions in every environment."""
        number = self.house.register()
        for place in PLACES:
            self.house.wait_event("approval.requested", version=number, environment=place)
        return number

    def approve(self, number: int, place: str = "production") -> None:
        where = path("models", "m", "versions", number, "decisions")
        body = {"environment": place, "verdict": "approve", "comment": "tests"}

        def approved() -> bool:
            if not self.house.events("version.approved", version=number, environment=place):
                self.act(lambda: self.house.client("boris").call("POST", where, body=body))
            return bool(self.house.events("version.approved", version=number, environment=place))

        self.house.wait(approved, f"v{number} to be approved for {place}")

    def serves(self, number: int, place: str = "production") -> None:
        """Wait until only this version answers, and nothing is wanted that is not."""

        def there() -> bool:
            endpoint = self.house.endpoint(place)
            live = endpoint["deployments"].get("live", {}).get("version")
            return live == number and not endpoint["rollout"]

        self.house.wait(there, f"v{number} live in {place}")
        self.house.wait(lambda: {self.house.ask(environment=place)[1] for _ in range(10)} == {str(number)}, "answers")

    def live(self, place: str = "production") -> int:
        return self.house.endpoint(place)["deployments"]["live"]["version"]

    def shipped(self, place: str = "production", *, point: points.Point | None = None) -> int:
        """A version that all the traffic of an environment went to."""
        number = self.registered()
        if point is not None:
            self.arm(point)
        self.approve(number, place)
        self.house.wait_event("rollout.completed", version=number, environment=place)
        self.serves(number, place)
        return number

    def told(self, number: int, *story: str, place: str = "production") -> None:
        """Each of these once, in this order, each from a cause that is in the log too."""
        found = self.house.events(*STORY, "rollout.paused", "rollout.aborted", version=number, environment=place)
        assert tuple(event["type"] for event in found) == story
        known = {event["id"] for event in self.house.events("deployment.created", "version.approved")}
        assert {event["cause"] for event in found} <= known


def canary(yard: Yard, point: points.Point) -> None:
    number = yard.shipped(point=point)
    yard.house.wait(lambda: (yard.house.endpoint()["watch"] or {}).get("baseline"), "the watch to begin")
    yard.told(number, *STORY)


def bad_in_canary(yard: Yard, point: points.Point) -> None:
    live, number = yard.live(), yard.registered()
    yard.arm(point)
    yard.approve(number)
    yard.house.wait_event("rollout.step", version=number)
    yard.house.knob(number).write_text("error")
    yard.house.wait_event("rollout.aborted", version=number)
    yard.serves(live)
    yard.told(number, *STORY[:3], "rollout.aborted")


def bad_before_traffic(yard: Yard, point: points.Point) -> None:
    live, number = yard.live(), yard.registered()
    yard.house.knob(number).write_text("error")
    yard.arm(point)
    yard.approve(number)
    yard.house.wait_event("rollout.aborted", version=number)
    yard.serves(live)
    yard.told(number, *STORY[:2], "rollout.aborted")


def bad_later(yard: Yard, point: points.Point) -> None:
    live, number = yard.live(), yard.shipped()
    yard.house.wait(lambda: (yard.house.endpoint()["watch"] or {}).get("baseline"), "the watch to begin")
    yard.arm(point)
    yard.house.knob(number).write_text("error")
    yard.house.wait_event("rollback.completed", **{"from": number, "to": live})
    yard.serves(live)
    assert len(yard.house.events("rollback.completed", **{"from": number})) == 1


def bad_while_paused(yard: Yard, point: points.Point) -> None:
    live, number = yard.live("quiet"), yard.registered()
    yard.approve(number, "quiet")
    yard.house.wait_event("rollout.paused", version=number)
    yard.arm(point)
    yard.house.knob(number).write_text("error")
    yard.house.wait_event("rollout.aborted", version=number, environment="quiet")
    yard.serves(live, "quiet")


def too_quiet(yard: Yard, point: points.Point) -> None:
    number = yard.registered()
    yard.arm(point)
    yard.approve(number, "quiet")
    yard.house.wait_event("rollout.paused", version=number)
    yard.house.wait(lambda: yard.house.endpoint("quiet")["rollout"]["state"] == "paused", "a pause")
    assert len(yard.house.events("rollout.paused", version=number)) == 1
    yard.request("rollout/promote", "quiet")
    yard.serves(number, "quiet")


def at_once(yard: Yard, point: points.Point) -> None:
    """All at once, until the version before is let go of."""
    number = yard.shipped("once", point=point)
    yard.house.wait(
        lambda: not yard.house.endpoint("once")["deployments"].get("previous"), "the old one to be retired"
    )
    yard.serves(number, "once")
    yard.told(number, STORY[0], STORY[1], STORY[3], place="once")


def mirrored(yard: Yard, point: points.Point) -> None:
    number = yard.registered()
    yard.arm(point)
    yard.approve(number, "mirrored")
    yard.house.wait_event("rollout.paused", version=number, environment="mirrored")
    yard.request("rollout/promote", "mirrored")
    yard.serves(number, "mirrored")
    yard.told(number, *STORY[:3], "rollout.paused", "rollout.completed", place="mirrored")


def rolled_back(yard: Yard, point: points.Point) -> None:
    """By hand, while the version before is warm; and forward again."""
    before = yard.live()
    after = yard.shipped()
    yard.arm(point)
    yard.request("rollback")
    yard.house.wait_event("rollback.completed", **{"from": after, "to": before})
    yard.serves(before)
    assert len(yard.house.events("rollback.completed", **{"from": after, "to": before})) == 1


def rolled_back_cold(yard: Yard, point: points.Point) -> None:
    before = yard.live("once")
    after = yard.shipped("once")
    yard.house.wait(
        lambda: not yard.house.endpoint("once")["deployments"].get("previous"), "the old one to be retired"
    )
    yard.arm(point)
    yard.request("rollback", "once")
    yard.serves(before, "once")
    assert len(yard.house.events("deployment.created", version=before, environment="once")) >= 2 and after


def rolled_back_offline(yard: Yard, point: points.Point) -> None:
    before = yard.live()
    after = yard.shipped()
    yard.arm(point)
    yard.house.command("rollback", "production/m", "--offline", "-m", "tests")
    yard.house.wait_event("rollback.completed", **{"from": after, "to": before})
    yard.serves(before)
    assert len(yard.house.events("rollback.completed", **{"from": after, "to": before})) == 1


def aborted(yard: Yard, point: points.Point) -> None:
    live, number = yard.live("quiet"), yard.registered()
    yard.approve(number, "quiet")
    yard.house.wait_event("rollout.step", version=number, environment="quiet")
    yard.arm(point)
    yard.request("rollout/abort", "quiet")
    yard.house.wait_event("rollout.aborted", version=number, environment="quiet")
    yard.serves(live, "quiet")
    assert len(yard.house.events("rollout.aborted", version=number)) == 1


def deployed_again(yard: Yard, point: points.Point) -> None:
    before = yard.live("once")
    yard.shipped("once")
    yard.arm(point)
    body = {"model": "m", "version": before}
    where = path("environments", "once", "deployments")
    yard.act(lambda: yard.house.client("otto").call("POST", where, body=body))
    yard.serves(before, "once")


def token_made(yard: Yard, point: points.Point) -> None:
    """Who may roll back is in the gateway's files."""
    yard.arm(point)
    made: list[str] = []
    body = {"principal": "otto"}
    yard.act(lambda: made.append(yard.house.client().call("POST", path("tokens"), body=body)["token"]))
    yard.hit()
    digest = hashlib.sha256(made[0].encode()).hexdigest() if made else ""
    file = yard.house.home / "serving" / "production" / "operators.json"
    yard.house.wait(lambda: digest in json.loads(file.read_text())["tokens"] or not digest, "operators")


SCENARIOS: dict[str, list[Callable[[Yard, points.Point], None]]] = {
    "deployments/controller:_step:write": [at_once],
    "deployments/files:materialise:rename#2": [canary],
    "deployments/files:materialise:rmtree": [canary],
    "deployments/offline:switch:atomic_write": [rolled_back, aborted],
    "deployments/offline:switch:write_if_changed": [rolled_back, aborted],
    "deployments/offline:reconcile:write": [rolled_back_offline],
    "deployments/offline:reconcile:unlink": [rolled_back_offline],
    "deployments/offline:record:write": [rolled_back, aborted],
    "deployments/offline:record:unlink": [rolled_back, aborted],
    "deployments/placement:write:write_if_changed": [canary],
    "deployments/placement:write:write_if_changed#2": [canary],
    "deployments/placement:write:write_if_changed#3": [token_made],
    "deployments/progress:watch:write": [canary],
    "deployments/progress:watch:write#2": [bad_later],
    "deployments/progress:_begin:_move": [canary],
    "deployments/progress:_warm:_abort#3": [bad_before_traffic],
    "deployments/progress:_warm:write": [at_once],
    "deployments/progress:_examine:atomic_write": [canary],
    "deployments/progress:_examine:unlink": [canary],
    "deployments/progress:_shift:_abort": [bad_in_canary],
    "deployments/progress:_lost_patience:_pause": [too_quiet],
    "deployments/progress:_hold:_abort": [bad_while_paused],
    "deployments/progress:_go_on:_pause": [mirrored],
    "deployments/progress:_go_on:write#2": [canary],
    "deployments/progress:_step:_move": [canary],
    "api/endpoints:deploy:write": [deployed_again],
    "api/endpoints:rollback:write": [rolled_back_cold],
    "api/endpoints:steer:write": [mirrored],
    "server/loops:dispatch:write": [canary],
}
ELSEWHERE = {
    "deployments/agent:": "a far machine repeats its report: test_agent.py",
    "api/agents:report:write": "a far machine repeats its report: test_agent.py",
    "deployments/arrivals:": "the far machine asks what is here and sends the rest again: test_shipping.py",
    "deployments/shipping:": "the same, from its side: test_shipping.py",
    "deployments/libraries:": "an environment is whole or absent, and begun again",
    "deployments/progress:_is_built:write": "a note of why it waits, written again each turn",
    "api/endpoints:declare:write": "one transaction; applying the file again changes nothing",
    "api/endpoints:remove:write": "one transaction; the files follow as for a retired deployment, which is tested",
    "deployments/supervisor:": "it takes everything with it: test_delivery_kill.py",
    "deployments/local_workers:": "it takes everything with it, as the supervisor does",
    "deployments/log_keeping:_forget:": "hours that are too old: what is left goes at the next look",
    "deployments/porter:serve:unlink": "its socket, made anew whenever it starts",
    "deployments/running:tell:": "what a supervisor or keeper sees, written again when it changes",
    "server/loops:_": "jobs and schedules are not delivery",
    "deployments/controller:_expire:write": "the end of a break-glass approval: its own transaction, repeated",
    "deployments/files:materialise:rename": "a damaged folder: as the renaming into place, which is tested",
    "deployments/files:materialise:rmtree#2": "a damaged folder that was put aside",
    "deployments/files:write_if_changed:atomic_write": "its callers are the points",
    "deployments/offline:pending:rename": "a torn file is put aside; nothing depends on it",
    "deployments/progress:_begin:write": "a note of why it waits, written again each turn",
    "deployments/progress:_go_on:write": "a note of why it waits, written again each turn",
    "deployments/progress:_warm:_abort": "the abort of bad_before_traffic, for another reason",
    "deployments/progress:_warm:_abort#2": "the abort of bad_before_traffic, for another reason",
    "deployments/progress:_shift:write": "a step's time begins anew: test_the_gateway_is_killed_in_a_canary",
    "deployments/progress:_shift:write#2": "the completion of a canary, for another reason",
    "deployments/progress:_shift:write#3": "why a step waits, in words: the next look says it again",
    "deployments/progress:_shift:_move": "the step of a canary, to another share",
    "deployments/progress:_lost_patience:write": "a step's time begins anew, as above",
    "deployments/progress:_wait_or_ask:_abort": "the abort of bad_before_traffic, for another reason",
    "deployments/progress:_wait_or_ask:_pause": "the pause of too_quiet, for another reason",
    "api/endpoints:_abort:write": "without a gateway here: the platform's own abort, which is tested",
}


def exempt(name: str) -> bool:
    return any(name == known or (known[-1] in ":_" and name.startswith(known)) for known in ELSEWHERE)


def test_every_side_effect_has_a_kill_or_a_reason() -> None:
    found = set(points.every())
    unknown = {name for name in found if name not in SCENARIOS and not exempt(name)}
    assert not unknown, f"give these a scenario, or a reason why they need none: {sorted(unknown)}"
    gone = {name for name in SCENARIOS if name not in found}
    assert not gone, f"these are no longer in the code: {sorted(gone)}"


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("points")
    house = House(folder, PROJECT)
    house.patience_s = 240
    found = os.pathsep.join(filter(None, (str(CRASH), os.environ.get("PYTHONPATH"))))
    house.environment |= {"PYTHONPATH": found, "MODELYARD_CRASH_AT": str(folder / "crash.json")}
    try:
        made = Yard(house.start(), folder / "crash.json")
        number = made.registered()
        for place in PLACES:
            made.approve(number, place)
        for place in PLACES:
            made.serves(number, place)
        yield made
    finally:
        house.stop()


CASES = [(name, scenario) for name, listed in SCENARIOS.items() for scenario in listed]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "scenario"), CASES, ids=[f"{name}-{each.__name__}" for name, each in CASES])
def test_a_kill_after(name: str, scenario: Callable[[Yard, points.Point], None], yard: Yard) -> None:
    house, started = yard.house, time.monotonic()
    flows = [Flow(lambda place=place: house.ask(environment=place), threads=1, pause_s=0.01) for place in PLACES]
    before = house.pid_of("server", str(house.home))
    try:
        for flow in flows:
            flow.__enter__()
        scenario(yard, points.every()[name])
        yard.hit()
    finally:
        for flow in flows:
            flow.__exit__()
        yard.disarm()
    assert house.pid_of("server", str(house.home)) != before
    ours = {str(number) for number in range(1, house.count + 1) if house.knob(number).exists()}
    lost = {key: count for flow in flows for key, count in flow.failed.items() if key[0] not in ours}
    assert not lost, lost
    for place in PLACES:
        house.wait(lambda place=place: not house.endpoint(place)["differences"], f"no difference in {place}")
    assert "chain" in house.command("audit", "verify", name="owner")
    print(f"{name} {scenario.__name__}: {time.monotonic() - started:.1f} s")
