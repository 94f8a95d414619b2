"""Rollouts on a yard that is up, judged by which version answers, never by a status field."""

import itertools
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelyard.build.pipelines import model_format
from modelyard.client.api import path
from modelyard.deliver.deployments import offline, places
from modelyard.domain.errors import Conflict, Forbidden
from modelyard.kit.clock import now_ms
from tests.unit.deliver.deployments.house import FAST, Flow, House, ask_gateway

pytestmark = pytest.mark.timeout(400)
Yard = Callable[..., House]
GATEWAY = "modelyard.deliver.serving.gateway"
UNHURRIED = FAST.replace('bake = "2s"', 'bake = "5s"')
"""Time enough, on a busy machine, to make a canary bad before it has succeeded."""


def replaced(house: House, old: int, new: int) -> None:
    house.wait(lambda: house.settled(new), f"v{new} to answer instead of v{old}")


def test_the_life_of_an_endpoint(yard: Yard) -> None:
    """Canary by numbers, abort by error, rollback by hand, rollback by itself; not one request lost to a switch."""
    house = yard(UNHURRIED)
    one = house.first()
    back_and_forth = path("environments", "production", "endpoints", "m", "rollback")

    with house.flow() as flow:
        two = house.ship()
        house.wait_event("rollout.completed", version=two)
        replaced(house, one, two)
    assert flow.failed == {} and flow.answered == {str(one), str(two)}
    (step,) = house.events("rollout.step", version=two)
    assert step["data"]["share"] == 0.5 and "smoke request" in step["data"]["checks"][0]

    # a canary that begins to fail is taken back; only its own share met errors
    with house.flow() as flow:
        three = house.ship()
        house.wait_event("rollout.step", version=three)
        house.knob(three).write_text("error")
        aborted = house.wait_event("rollout.aborted", version=three)
        replaced(house, three, two)
    assert "error rate" in aborted["data"]["reason"]
    assert sum(flow.failed.values()) == flow.failed_by(three) > 0

    # by hand, from the command line: back in milliseconds, no request lost
    with house.flow(threads=1, pause_s=0.001) as flow:
        started = time.monotonic()
        house.client("otto").call("POST", back_and_forth, body={"reason": "by hand"})
        while house.ask()[1] != str(one):
            assert time.monotonic() - started < 20
        took_ms = (time.monotonic() - started) * 1000
    assert flow.failed == {}
    print(f"rollback by the server: {took_ms:.0f} ms")
    said = house.command("rollback", "production/m", "-m", "and forward again")
    assert f"all traffic goes to v{two}" in said and f"v{one} stays warm" in said
    replaced(house, one, two)

    # to and fro, faster than the server's turns: the traffic stays where it was sent last
    for expected in (str(one), str(two)) * 15:
        house.client("otto").call("POST", back_and_forth, body={"reason": "to and fro"})
        assert {house.ask()[1] for _ in range(20)} == {expected}

    # a version that turns bad after its rollout is taken back by itself
    four = house.ship()
    with house.flow() as flow:
        house.wait_event("rollout.completed", version=four)
        house.wait(lambda: (house.endpoint()["watch"] or {}).get("baseline"), "the watch to begin")
        house.knob(four).write_text("error")
        back = house.wait_event("rollback.completed", to=two, **{"from": four})
        replaced(house, four, two)
    assert back["actor"] == "modelyard" and "error rate" in back["data"]["reason"]
    assert sum(flow.failed.values()) == flow.failed_by(four)


@pytest.mark.slow
def test_a_slow_version_gets_no_further(yard: Yard) -> None:
    house = yard(UNHURRIED.replace("error_rate = 0.05", "latency_p95_ms = 200"))
    house.first()
    with house.flow(threads=4) as flow:
        two = house.ship()
        house.wait_event("rollout.step", version=two)
        house.knob(two).write_text("slow")
        aborted = house.wait_event("rollout.aborted", version=two)
    assert "latency p95" in aborted["data"]["reason"] and flow.failed == {}


@pytest.mark.slow
def test_dying_and_broken_versions_get_no_further(yard: Yard) -> None:
    house = yard(UNHURRIED)
    one = house.first()

    # dying: its worker ends again and again
    with house.flow() as flow:
        two = house.ship()
        house.wait_event("rollout.step", version=two)
        house.knob(two).write_text("die")
        aborted = house.wait_event("rollout.aborted", version=two)
        house.knob(two).write_text("")
    assert "worker ended" in aborted["data"]["reason"]
    assert sum(flow.failed.values()) == flow.failed_by(two)

    # broken before any traffic: the smoke request
    house.knob(3).write_text("error")
    with house.flow() as flow:
        three = house.ship()
        aborted = house.wait_event("rollout.aborted", version=three)
    assert "smoke request was answered 500" in aborted["data"]["reason"]
    assert flow.answered == {str(one)} and flow.failed == {}

    # too little traffic is said: paused, and a person decides
    four = house.ship()
    paused = house.wait_event("rollout.paused", version=four)
    assert "inconclusive: only" in paused["data"]["reason"]
    shown = house.command("endpoints")
    assert "the rollout is paused: inconclusive" in shown
    assert f"v{one}: " in shown and f"v{two}: " not in shown  # which had traffic too, two rollouts ago
    with pytest.raises(Forbidden):
        house.steer("promote", "boris")
    house.steer("promote")
    replaced(house, one, four)

    # a signature that callers must adapt to needs a person's word
    five = house.ship(columns=("x", "y"))
    aborted = house.wait_event("rollout.aborted", version=five)
    assert "callers would break: column 'y' (double) is new and required" in aborted["data"]["reason"]
    house.command("deploy", f"m/{five}", "--to", "production", "--accept-breaking", "all callers send y since Monday")
    house.wait_event("rollout.step", version=five)
    house.steer("abort")
    house.wait(lambda: house.settled(four), "v4 to have the traffic back")


def cities_model(folder: Path, unknown: str) -> None:
    """A pipeline over text; `unknown` is what its encoder does with a category that it does not know."""
    rows = pd.DataFrame({"age": [20.0, 30.0, 40.0, 50.0], "city": ["Rome", "Oslo", "Rome", "Oslo"]})
    prepared = make_column_transformer((StandardScaler(), ["age"]), (OneHotEncoder(handle_unknown=unknown), ["city"]))
    model = make_pipeline(prepared, LogisticRegression()).fit(rows, [0, 0, 1, 1])
    shutil.rmtree(folder)
    model_format.save(model, folder, rows)


@pytest.mark.slow
def test_a_canary_that_refuses_what_the_champion_takes_is_aborted(yard: Yard) -> None:
    house = yard(UNHURRIED.replace("min_requests = 10", "min_requests = 20"))  # a third of them is told from chance
    house.patience_s = 240.0
    url, turns = house.note("gateway-production")["url"], itertools.count()

    def rows(city: str) -> bytes:
        return json.dumps({"inputs": {"age": [31.0], "city": [city]}}).encode()

    def asks(*bodies: bytes) -> Any:
        return lambda: ask_gateway(url, house.tokens["otto"], "m", body=bodies[next(turns) % len(bodies)])

    one = house.ship(edit=lambda folder: cities_model(folder, "ignore"))
    house.wait(lambda: asks(rows("Bonn"))() == (200, str(one)), "v1 to answer")

    # an unknown category: the same signature, so nothing before traffic tells; only its share of the traffic met it
    with Flow(asks(rows("Rome"), rows("Bonn"), rows("Oslo"))) as flow:
        two = house.ship(edit=lambda folder: cities_model(folder, "error"))
        aborted = house.wait_event("rollout.aborted", version=two)
        house.wait(lambda: asks(rows("Bonn"))() == (200, str(one)), "v1 to have the traffic back")
    reason = aborted["data"]["reason"]
    assert "declined rate" in reason and "against the champion's 0.0% on the same traffic" in reason
    assert set(flow.failed) == {(str(two), 400)}
    declined = {held["version"]: held["declined"] for held in house.endpoint()["traffic"].values()}
    assert declined[one] == 0 and declined[two] >= flow.failed_by(two)
    shown = " ".join(house.command("endpoints").split())
    assert f"{declined[two]} declined" in shown and "aborted: declined rate" in shown

    # who sends rubbish to both takes nothing back: what neither can read, and what neither takes
    rubbish = (b"{", json.dumps({"inputs": {"age": [31.0]}}).encode())
    with Flow(asks(rows("Bonn"), *rubbish)) as flow:
        three = house.ship(edit=lambda folder: cities_model(folder, "infrequent_if_exist"))
        house.wait_event("rollout.completed", version=three)
    assert {status for _, status in flow.failed} == {400} and not house.events("rollout.aborted", version=three)


@pytest.mark.slow
def test_parity_with_the_registered_evaluation(yard: Yard) -> None:
    house = yard()
    one = house.first()
    good = pd.DataFrame({"x": [1.0, 2.0, 3.0], "prediction": [2.0, 4.0, 6.0], "label": [0, 1, 1]})
    with house.flow():
        two = house.ship(reference=good)
        step = house.wait_event("rollout.step", version=two)
        assert any("predicts the reference window as registered" in item for item in step["data"]["checks"])
        house.wait_event("rollout.completed", version=two)
    wrong = good.assign(prediction=[3.0, 6.0, 9.1])
    three = house.ship(reference=wrong)
    aborted = house.wait_event("rollout.aborted", version=three)
    assert "otherwise than registered" in aborted["data"]["reason"]
    assert house.settled(two) and not house.settled(one)


@pytest.mark.slow
def test_the_newest_wins_and_a_pause_holds(yard: Yard) -> None:
    preview = '[models.m]\ntask = "binary"\n[models.m.serving]\npreview = { header = "preview", value = "yes" }\n'
    house = yard(FAST.replace('bake = "2s"', 'bake = "1h"') + preview)
    house.first()
    two = house.ship()
    house.wait_event("rollout.step", version=two)
    with pytest.raises(Conflict, match="on its way"):
        house.client("otto").call(
            "POST", path("environments", "production", "deployments"), body={"model": "m", "version": two}
        )
    three = house.ship()
    house.wait_event("rollout.aborted", version=two, reason=f"superseded by v{three}")
    house.wait_event("rollout.step", version=three)
    assert (
        house.command("rollout", "pause", "production/m", "-m", "lunch") == "The rollout at production/m is paused.\n"
    )
    house.command("rollout", "resume", "production/m", "-m", "back")
    assert {house.ask()[1] for _ in range(20)} == {"1", str(three)}
    assert {house.ask(preview="yes") for _ in range(10)} == {(200, str(three))}
    house.command("rollout", "abort", "production/m", "-m", "enough")
    house.wait(lambda: house.settled(1), "v1 to have the traffic back")
    assert {house.ask(preview="yes") for _ in range(10)} == {(200, "1")}
    assert "No rollout is under way" in house.command("rollout", "abort", "production/m", "-m", "x", fails=True)


def test_a_killed_gateway_refuses_nobody(yard: Yard) -> None:
    """Requests that it had are cut off; those that come until its successor listens wait for it."""
    house = yard()
    one = house.first()
    with house.flow(threads=4, pause_s=0.001) as flow:
        for _ in range(2):
            killed, answered = house.kill_gateway(), flow.seen[str(one), 200]
            house.wait(lambda killed=killed: house.pid_of(GATEWAY) not in (None, killed), "another gateway")
            house.wait(lambda answered=answered: flow.seen[str(one), 200] > answered + 20, "answers by it")
    lost = sum(flow.failed.values())
    assert ("ConnectionRefusedError", 0) not in flow.failed and lost <= 2 * flow.threads, flow.failed
    assert flow.slowest_s < 30

    url = house.note("gateway-production")["url"]
    house.stop()  # but one that is stopped leaves nobody waiting
    with pytest.raises(ConnectionRefusedError):
        ask_gateway(url, house.tokens["otto"], "m")


@pytest.mark.slow
def test_a_gateway_that_cannot_start_lets_nobody_wait(yard: Yard) -> None:
    house = yard()
    house.first()
    url = house.note("gateway-production")["url"]
    pid = house.pid_of(GATEWAY)
    assert pid is not None
    admin = places.admin_socket(house.home, "production")
    admin.unlink()
    (admin / "in the way").mkdir(parents=True)  # where it would listen for the controller
    os.kill(pid, signal.SIGKILL)

    def refused() -> bool:
        try:
            ask_gateway(url, house.tokens["otto"], "m")
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False

    house.wait(refused, "callers to be refused")
    (admin / "in the way").rmdir()
    admin.rmdir()
    house.wait(lambda: house.ask() == (200, "1"), "it to serve again")


def test_rolling_back_while_the_server_is_down(yard: Yard) -> None:
    house = yard()
    one = house.first()
    with house.flow():
        two = house.ship()
        house.wait_event("rollout.completed", version=two)
    assert house.up is not None
    server = house.pid_of("server", str(house.home))
    assert server is not None
    os.kill(server, signal.SIGSTOP)  # it hangs: it listens, and answers nobody
    with house.flow(threads=1, pause_s=0.001) as flow:
        started = time.monotonic()
        said = house.command("rollback", "production/m", "-m", "the server hangs", name="otto")
        assert "records this when it is back" in said
        while house.ask()[1] != str(one):
            assert time.monotonic() - started < 30
        assert "may not roll back" in house.command("rollback", "production/m", "--offline", name="ana", fails=True)
        os.kill(server, signal.SIGKILL)
        done = house.wait_event("rollback.completed", to=one)
    assert flow.failed == {}
    assert done["actor"] == "otto" and done["data"]["reason"] == "the server hangs" and done["data"]["operation"]
    assert house.settled(one)
    assert house.client().call("GET", path("models", "m", "versions", "champion"))["version"] == one
    for wanted in (two, one, two, one, two, one):  # the gateway is told: the very next request goes there
        offline.take_back(house.home, "production", "m", "back and forth", house.tokens["otto"], to=wanted)
        assert house.ask() == (200, str(wanted))
    assert "intact" in house.command("audit", "verify").lower() or house.command("audit", "verify")


@pytest.mark.slow
def test_a_rollback_whose_answer_is_lost_is_not_done_twice(yard: Yard) -> None:
    """The second would lead forward again, to the version that is to lose its traffic."""
    house = yard()
    one = house.first()
    with house.flow():
        two = house.ship()
        house.wait_event("rollout.completed", version=two)
    server = house.note("server")["url"].rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as door:

        def swallow_the_answer() -> None:
            caller, _ = door.accept()
            with caller, socket.create_connection(("127.0.0.1", int(server[2]))) as behind:
                while heard := caller.recv(65536):
                    behind.sendall(heard)

        threading.Thread(target=swallow_the_answer, daemon=True).start()
        house.environment["MODELYARD_URL"] = f"http://127.0.0.1:{door.getsockname()[1]}"
        said = house.command("rollback", "production/m", "-m", "an answer is lost")
    assert said == f"production/m: v{one} has all the traffic.\n" and house.settled(one)
    assert len(house.events("rollback.completed")) == 1


def test_aborting_while_the_server_is_down(yard: Yard) -> None:
    """Hanging, it gets the traffic's turn before the books; back, it writes down who did it, and when."""
    house = yard(FAST.replace('bake = "2s"', 'bake = "1h"'))
    one, two = house.first(), house.ship()
    house.wait_event("rollout.step", version=two)
    server = house.pid_of("server", str(house.home))
    assert server is not None
    os.kill(server, signal.SIGSTOP)
    with house.flow(threads=1, pause_s=0.001) as flow:
        said = house.command("rollout", "abort", "production/m", "-m", "looks wrong")
        assert "is aborted" in said and "records this when it is back" in said
        house.wait(lambda: house.settled(one), "v1 to have the traffic back")
        assert "needs the server" in house.command(
            *("rollout", "pause", "production/m", "-m", "x", "--offline"), fails=True
        )
        os.kill(server, signal.SIGKILL)
        done = house.wait_event("rollout.aborted", version=two)
    assert flow.failed == {} and house.settled(one)
    assert done["actor"] == "otto" and done["data"]["reason"] == "by otto: looks wrong"
    assert isinstance(done["data"]["switched_at"], int)


@pytest.mark.slow
def test_apply_shows_the_difference_first_and_then_makes_it(yard: Yard) -> None:
    house = yard(FAST.replace("canary", "all-at-once").replace('steps = ["50%"], ', ""))
    one = house.first()
    two = house.ship()
    replaced(house, one, two)
    file = house.project / "deployments.toml"
    file.write_text(f"[production]\nm = {{ version = {two} }}\n")
    assert "Nothing to change" in house.command("apply")
    file.write_text(f"[production.m]\nversion = {one}\n")
    assert f"production/m: v{two} -> v{one}" in house.command("apply", "--dry-run")
    assert house.settled(two)
    assert "v1 rolls out" in house.command("apply", "--yes")
    replaced(house, two, one)
    three = house.register()
    file.write_text(f"[production.m]\nversion = {three}\n")
    assert "has no approval for production" in house.command("apply", "--yes", fails=True)

    # how it gets there is declared too: shown, set before the version goes, left alone when it holds
    house.approve(three)
    replaced(house, one, three)
    file.write_text(
        f"[production.m]\nversion = {two}\n[production.m.rollout]\n"
        'strategy = "canary"\nsteps = ["10%", "50%"]\nbake = "1h"\n'
    )
    shown = house.command("apply", "--dry-run")
    assert f"production/m: v{three} -> v{two}" in shown
    assert "rollout: as the environment's" in shown and "-> canary steps=[10%,50%] bake=1h" in shown
    assert not any(house.endpoint()["declared"].values())
    assert f"v{two} rolls out (canary)" in house.command("apply", "--yes")
    house.wait_event("rollout.step", version=two, share=0.1)
    again = house.command("apply")
    assert "Nothing to change" in again and f"v{three} -> v{two} is under way" in again

    # the file goes back to what serves: the rollout under way is aborted; the environment's policy holds again
    file.write_text(f"[production.m]\nversion = {three}\n")
    assert "the rollout under way is aborted" in house.command("apply", "--yes")
    house.wait_event("rollout.aborted", version=two)
    assert house.endpoint()["declared"]["rollout"] is None and house.settled(three)

    # its workers by load, too
    file.write_text(f"[production.m]\nversion = {three}\nscale = {{ min = 2, max = 3 }}\n")
    shown = house.command("apply", "--yes")
    assert "scale: as the model's" in shown and "-> 2-3 workers" in shown
    house.wait(lambda: {told["ready"] for told in house.endpoint()["workers"].values()} >= {2}, "two workers")
    assert house.settled(three)

    # what the file leaves out is removed only when asked to
    file.write_text("[production]\n")
    assert "Nothing to change" in house.command("apply")
    file.write_text('[production]\nother = { rollout = { strategy = "blue-green" } }\n')
    assert "not found" in house.command("apply", "--yes", fails=True)


@pytest.mark.slow
def test_bounds_that_a_file_declares_take_back_a_rollout_under_way_and_a_version_after_one(yard: Yard) -> None:
    """The environment has no bound on latency; the file's holds from the moment it is applied."""
    house = yard(FAST.replace('bake = "2s"', 'bake = "1h"'))
    one = house.first()
    file = house.project / "deployments.toml"
    with house.flow(threads=4) as flow:
        two = house.ship()
        house.wait_event("rollout.step", version=two)
        house.knob(two).write_text("slow")
        coming = house.endpoint()["deployments"]["next"]["id"]
        house.wait(lambda: (house.endpoint()["traffic"][coming]["p99_ms"] or 0) > 250, "slow answers")
        assert not house.events("rollout.aborted", version=two)
        file.write_text("[production.m.abort_if]\nlatency_p95_ms = 200\n")
        shown = house.command("apply", "--yes")
        assert "abort_if.latency_p95_ms: as the environment's" in shown and "-> 200.0" in shown
        aborted = house.wait_event("rollout.aborted", version=two)
        replaced(house, two, one)
    assert "latency p95" in aborted["data"]["reason"] and flow.failed == {}
    assert "Nothing to change" in house.command("apply")

    with house.flow(threads=4) as flow:
        three = house.ship()
        house.wait_event("rollout.step", version=three)
        house.steer("promote")
        replaced(house, one, three)
        house.wait(lambda: (house.endpoint()["watch"] or {}).get("baseline"), "the watch to begin")
        house.knob(three).write_text("slow")
        back = house.wait_event("rollback.completed", to=one, **{"from": three})
        replaced(house, three, one)
    assert "latency p95" in back["data"]["reason"] and flow.failed == {}

    file.write_text(f"[production.m]\nversion = {one}\n")
    shown = house.command("apply", "--yes")
    assert "abort_if.latency_p95_ms: 200.0" in shown and "-> as the environment's" in shown
    assert [held["data"]["after"]["abort_if"] is None for held in house.events("endpoint.changed")] == [False, True]


@pytest.mark.slow
def test_apply_removes_what_the_file_leaves_out(yard: Yard) -> None:
    house = yard(FAST.replace("canary", "all-at-once").replace('steps = ["50%"], ', "") + "[environments.staging]\n")
    one = house.first()
    house.approve(one, "staging")
    house.wait(lambda: house.ask(environment="staging")[1] == str(one), "v1 in staging")
    file = house.project / "deployments.toml"
    file.write_text("[production]\n")
    assert "Nothing to change" in house.command("apply", "--prune")  # it names no endpoint of any environment
    house.model = "other"
    house.count = 0
    other = house.register()
    house.model = "m"
    file.write_text('[production.other.rollout]\nstrategy = "blue-green"\nbake = "1m"\n')
    shown = house.command("apply", "--prune", "--dry-run")
    assert f"- production/m: v{one} -> removed" in shown and "staging" not in shown and other == 1
    assert "production/m: removed." in house.command("apply", "--prune", "--yes")
    house.wait(lambda: house.ask()[0] == 404, "no endpoint in production")
    assert house.ask(environment="staging") == (200, str(one))
    (removed,) = house.events("endpoint.removed")
    assert removed["actor"] == "otto" and len(house.events("deployment.retired", environment="production")) == 1
    house.command("deploy", f"m/{one}", "--to", "production")  # its approval still holds
    house.wait(lambda: house.ask()[1] == str(one), "v1 in production again")


STRATEGIES = """
[project]
name = "tests"

[environments.blue]
rollout = { strategy = "blue-green", bake = "30s", min_requests = 10 }
abort_if = { error_rate = 0.05 }

[environments.shadow]
rollout = { strategy = "shadow", bake = "4s", min_requests = 20 }
abort_if = { error_rate = 0.05, prediction_drift = 0.2 }

[environments.production]
rollout = { strategy = "linear", step = "40%", bake = "3s", min_requests = 10 }
abort_if = { prediction_drift = 0.2 }
"""


@pytest.mark.slow
def test_blue_green_shadow_and_linear(yard: Yard) -> None:
    house = yard(STRATEGIES)
    places = ("blue", "shadow", "production")
    one = house.register()
    for place in places:
        house.approve(one, place)
    for place in places:
        house.wait(lambda place=place: house.ask(environment=place)[1] == str(one), f"v1 in {place}")

    def asks(place: str) -> Any:
        return lambda: house.ask(environment=place, x=float(now_ms() % 97))

    # the same answers: no drift, so the linear one completes, step by step
    two = house.register(factor=1.0)
    house.approve(two, "production")

    with Flow(asks("production")) as flow:
        house.wait_event("rollout.completed", version=two, environment="production")
    shares = [event["data"]["share"] for event in house.events("rollout.step", environment="production", version=two)]
    assert shares == [0.4, 0.8] and flow.failed == {}

    # blue-green: all at once, watched, and back when it fails
    house.approve(two, "blue")
    with Flow(asks("blue")) as flow:
        house.wait_event("rollout.step", version=two, environment="blue")
        house.wait(lambda: house.ask(environment="blue")[1] == str(two), "all traffic on v2")
        house.knob(two).write_text("error")
        house.wait_event("rollout.aborted", version=two, environment="blue")
    house.wait(lambda: house.ask(environment="blue") == (200, str(one)), "v1 to have the traffic back")
    assert sum(flow.failed.values()) == flow.failed_by(two)

    # shadow: it answers nobody; what it would have answered is compared, and then a person decides
    house.knob(two).write_text("")
    house.approve(two, "shadow")
    with Flow(asks("shadow")) as flow:
        house.wait_event("rollout.paused", version=two, environment="shadow")
    shown = house.endpoint("shadow")
    assert "shadow succeeded" in shown["rollout"]["reason"] and len(shown["traffic"]) == 2

    def compared() -> bool:
        """Whether it is told of all that were mirrored; the last are compared after their callers have gone."""
        shown = house.endpoint("shadow")
        mirrored = shown["traffic"][shown["deployments"]["next"]["id"]]["shadow_requests"]
        counts = f"{mirrored} requests mirrored, 0 failed, 0 declined, {mirrored} of {mirrored} answers equal"
        return mirrored >= 20 and any(f"the shadow v{two}: {counts}" in said for said in shown["differences"])

    house.wait(compared, "what the shadow was asked and answered")

    # other answers are no failure of its callers, but a drift
    three = house.register(factor=9.0)
    house.approve(three, "shadow")
    with Flow(asks("shadow")) as flow:
        aborted = house.wait_event("rollout.aborted", version=three, environment="shadow")
    assert "prediction drift" in aborted["data"]["reason"]
    assert flow.failed == {} and flow.answered == {str(one)}

    # other answers: the predictions drift from the champion's on the same traffic
    house.approve(three, "production")
    with Flow(asks("production")):
        aborted = house.wait_event("rollout.aborted", version=three, environment="production")
    assert "prediction drift" in aborted["data"]["reason"]
    house.wait(lambda: house.settled(two), "v2 to have the traffic back")
    assert json.loads(Path(house.home / "serving/production/operators.json").read_text())["tokens"]
