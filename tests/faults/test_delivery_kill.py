"""kill -9 in the middle of a canary: of the server, the gateway, a worker, the supervisor; what callers notice."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.client.api import path
from tests.conftest import wait_until
from tests.unit.deliver.deployments.house import FAST, House

pytestmark = [pytest.mark.timeout(280)]
SLOWLY = FAST.replace('bake = "2s"', 'bake = "4s"')


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = House(tmp_path, SLOWLY)
    opened.start()
    yield opened
    opened.stop()


def canary(house: House) -> tuple[int, int]:
    """A yard in the middle of a canary from the first version to the second."""
    one, two = house.first(), house.ship()
    house.wait_event("rollout.step", version=two)
    return one, two


def ended(house: House, number: int) -> None:
    house.wait(lambda: house.settled(number), f"v{number} to have all the traffic", 120)


def test_the_server_is_killed_in_a_canary(house: House) -> None:
    """Nobody who asks notices; after its restart the rollout ends."""
    one, two = canary(house)
    with house.flow() as flow:
        before = house.kill_server()
        wait_until(
            lambda: flow.seen[str(one), 200] > 20 and flow.seen[str(two), 200] > 20, "traffic without a server"
        )
        house.wait(lambda: house.pid_of("server", str(house.home)) not in (None, before), "another server")
        house.wait_event("rollout.completed", version=two)
        ended(house, two)
    assert flow.failed == {}, flow.failed
    assert len(house.events("rollout.step", version=two)) == 1
    assert len(house.events("rollout.completed", version=two)) == 1


@pytest.mark.slow
def test_time_without_a_server_is_no_lack_of_traffic(house: House) -> None:
    """A step whose traffic could not begin while the server was away is not given up at the first look."""
    _, two = canary(house)
    server = house.pid_of("server", str(house.home))
    assert server is not None

    def as_if_it_had_been_away() -> bool:
        """Whether the step began earlier now; not where the server was stopped in the middle of a write."""
        os.kill(server, signal.SIGSTOP)
        database = sqlite3.connect(house.home / "yard.db", timeout=1)
        try:
            with database:
                database.execute(
                    "UPDATE rollouts SET step_started_at = step_started_at - 600000 WHERE state = 'shifting'"
                )
        except sqlite3.OperationalError:
            os.kill(server, signal.SIGCONT)
            return False
        finally:
            database.close()
        return True

    house.wait(as_if_it_had_been_away, "the step to have begun ten minutes ago")
    os.kill(server, signal.SIGKILL)
    house.wait(lambda: house.pid_of("server", str(house.home)) not in (None, server), "another server")
    house.wait(lambda: house.endpoint(), "it to answer")
    with house.flow() as flow:
        ends = house.wait(
            lambda: house.events("rollout.completed", "rollout.paused", version=two), "the canary's end"
        )
    assert [event["type"] for event in ends] == ["rollout.completed"], ends
    assert flow.failed == {}, flow.failed


@pytest.mark.slow
def test_the_server_is_killed_again_and_again(house: House) -> None:
    """Wherever it is hit, the rollout goes on where the database says it is; each step is recorded once."""
    one = house.first()
    with house.flow() as flow:
        two = house.ship()
        for _ in range(3):
            house.wait(lambda: house.client().call("GET", path("endpoints")), "the server's answer")
            before = house.kill_server()
            house.wait(
                lambda before=before: house.pid_of("server", str(house.home)) not in (None, before), "another server"
            )
        house.wait_event("rollout.completed", version=two)
        ended(house, two)
    assert flow.failed == {} and flow.answered == {str(one), str(two)}
    for kind in ("rollout.started", "rollout.step", "rollout.completed"):
        assert len(house.events(kind, version=two)) == 1, kind


@pytest.mark.slow
def test_a_worker_is_killed_in_a_canary(house: House) -> None:
    """Requests wait for its successor; none fails, and one death does not abort the rollout."""
    _, two = canary(house)
    deployment = house.endpoint()["deployments"]["next"]["id"]
    with house.flow() as flow:
        pid = house.worker_pid(deployment)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        house.wait(lambda: house.worker_pid(deployment) not in (None, pid), "another worker")
        house.wait_event("rollout.completed", version=two)
        ended(house, two)
    assert flow.failed == {}, flow.failed


@pytest.mark.slow
def test_the_gateway_is_killed_in_a_canary(house: House) -> None:
    """Callers lose their connections until the supervisor has another one up, on the same port; the rollout ends."""
    _, two = canary(house)
    url = house.note("gateway-production")["url"]
    with house.flow(threads=1) as flow:
        before = house.kill_gateway()
        house.wait(
            lambda: house.pid_of("modelyard.deliver.serving.gateway", "production") not in (None, before),
            "another gateway",
        )
        house.wait_event("rollout.completed", version=two)
        ended(house, two)
    assert house.note("gateway-production")["url"] == url
    assert {status for _, status in flow.failed} <= {0}, flow.failed  # connections, never a wrong answer


@pytest.mark.slow
def test_the_supervisor_is_killed(house: House) -> None:
    """What it started ends with it, so that nothing serves unwatched; the next `up` goes on where it was."""
    one, two = canary(house)
    house.kill_everything()
    house.start()
    with house.flow() as flow:
        house.wait_event("rollout.completed", version=two)
        ended(house, two)
    assert flow.failed == {}
    assert str(two) in flow.answered and flow.answered <= {str(one), str(two)}


def test_up_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    """One clear error, not 0, nothing left behind: a second one, a port in use, a broken file, a read-only folder."""

    def run(folder: Path, *options: str, user: int | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "modelyard", "up", *options],
            cwd=folder,
            env={k: v for k, v in os.environ.items() if not k.startswith("MODELYARD")},
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
            user=user,
        )
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        return done.stderr

    (tmp_path / "a").mkdir()
    first = House(tmp_path / "a")
    first.start()
    try:
        before = (first.home / "run" / "server.json").read_bytes()
        assert "This yard is up already" in run(first.project, "--port", "0")
        assert (first.home / "run" / "server.json").read_bytes() == before
    finally:
        first.stop()

    other = tmp_path / "b"
    other.mkdir()
    (other / "modelyard.toml").write_text(FAST)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"Port {port} on 127.0.0.1 cannot be used" in run(other, "--port", str(port))
    assert not (other / ".modelyard" / "yard.db").exists()

    (other / "modelyard.toml").write_text(FAST.replace("canary", "canery"))
    assert "canery" in run(other, "--port", "0")

    (other / "modelyard.toml").write_text(FAST)
    (other / ".modelyard" / "yard.db").write_text("this is no database, and long enough to be read as one" * 100)
    said = run(other, "--port", "0")
    assert "server did not start" in said and "database" in said

    if os.getuid() == 0:
        closed = tmp_path / "c"
        closed.mkdir(mode=0o755)
        (closed / "modelyard.toml").write_text(FAST)
        os.chmod(tmp_path, 0o755)
        for parent in tmp_path.parents:
            if not os.stat(parent).st_mode & 0o001:
                return
        assert "cannot be written" in run(closed, "--port", "0", user=65534)
        assert not (closed / ".modelyard").exists()
