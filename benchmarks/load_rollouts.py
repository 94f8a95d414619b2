"""Rollouts under load: what callers notice of a canary, an abort, a promotion and a rollback.

python benchmarks/load_rollouts.py, from the repository's top. Prints a table: requests, failed ones by who answered,
the slowest, and how long the traffic took to move. Read ratios, not seconds: it shares the machine with its clients.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from modelyard.client.api import path
from tests.unit.deliver.deployments.house import FAST, Flow, House

Scene = Callable[[House, int], int]


def canary(house: House, live: int) -> int:
    """Promotion by numbers: the canary completes."""
    number = house.ship()
    house.wait_event("rollout.completed", version=number)
    return number


def by_error(house: House, live: int) -> int:
    return _aborted(house, "error") or live


def by_slowness(house: House, live: int) -> int:
    return _aborted(house, "slow") or live


def by_kill(house: House, live: int) -> int:
    """The challenger's worker is killed until the rollout gives it up."""
    number = house.ship()
    house.wait_event("rollout.step", version=number)
    deployment = house.endpoint()["deployments"]["next"]["id"]
    killed: set[int] = set()
    while not house.events("rollout.aborted", version=number):
        pid = house.worker_pid(deployment)
        if pid is not None and pid not in killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(0.1)
    return live


def by_hand(house: House, live: int) -> int:
    """A rollback from the API, measured until the other version answers."""
    where = path("environments", "production", "endpoints", "m", "rollback")
    previous = house.endpoint()["deployments"]["previous"]["version"]
    started = time.perf_counter()
    house.client("otto").call("POST", where, body={"reason": "load test"})
    while house.ask()[1] != str(previous):
        pass
    print(f"    v{previous} answers again after {(time.perf_counter() - started) * 1000:.0f} ms")
    return previous


def promoted(house: House, live: int) -> int:
    """A person promotes a canary before its time."""
    number = house.ship()
    house.wait_event("rollout.step", version=number)
    house.steer("promote")
    return number


def server_killed(house: House, live: int) -> int:
    """The server is killed in the middle of a canary."""
    number = house.ship()
    house.wait_event("rollout.step", version=number)
    house.kill_server()
    house.wait_event("rollout.completed", version=number)
    return number


def _aborted(house: House, knob: str) -> None:
    number = house.ship()
    house.wait_event("rollout.step", version=number)
    house.knob(number).write_text(knob)
    house.wait_event("rollout.aborted", version=number)


SCENES: dict[str, Scene] = {
    "canary completes": canary,
    "abort by error": by_error,
    "abort by slowness": by_slowness,
    "abort by killed worker": by_kill,
    "promotion by hand": promoted,
    "rollback by hand": by_hand,
    "server killed in a canary": server_killed,
}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="yard-") as folder:
        house = House(Path(folder), FAST).start()
        try:
            live = house.first()
            print(f"{'scene':<28}{'requests':>10}{'failed':>8}{'of the live':>13}{'slowest s':>11}")
            lost = 0
            for name, scene in SCENES.items():
                with Flow(house.ask, threads=3, pause_s=0.001) as flow:
                    before, live = live, scene(house, live)
                    house.wait(lambda live=live: house.settled(live), f"v{live} to have all the traffic")
                failed = sum(flow.failed.values())
                serving = flow.failed_by(before) + sum(n for (v, _), n in flow.failed.items() if not v.isdigit())
                lost += serving
                print(f"{name:<28}{flow.total():>10}{failed:>8}{serving:>13}{flow.slowest_s:>11.2f}")
        finally:
            house.stop()
    print(f"requests lost outside the challenger's own share: {lost}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
