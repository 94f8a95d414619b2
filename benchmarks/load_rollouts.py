"""Rollouts under load: what callers notice of a canary, an abort, a promotion and a rollback.

python benchmarks/load_rollouts.py [--scenes N,N], from the repository's top. Prints a table: requests, those that
the challenger itself answered with an error, those lost otherwise, the slowest, and how long the traffic took to
move. Read ratios, not seconds: it shares the machine with its clients. Ends with 1 when a request was lost.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from modelyard.client.api import path
from modelyard.deliver.deployments import offline
from tests.unit.deliver.deployments.house import FAST, Flow, House

Scene = Callable[[House, int], tuple[int, str]]
"""What happens while requests go on: (version that serves at the end, what is worth a note)."""
ROLLBACKS = 10


def canary(house: House, live: int) -> tuple[int, str]:
    """Promotion by numbers: the canary completes."""
    number = house.ship()
    house.wait_event("rollout.completed", version=number)
    return number, ""


def by_error(house: House, live: int) -> tuple[int, str]:
    return live, _aborted(house, "error")


def by_slowness(house: House, live: int) -> tuple[int, str]:
    return live, _aborted(house, "slow")


def by_dying(house: House, live: int) -> tuple[int, str]:
    """The challenger ends itself at every request."""
    number, reason = house.count + 1, _aborted(house, "die")
    house.knob(number).unlink()
    return live, reason


def by_kill(house: House, live: int) -> tuple[int, str]:
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
    return live, house.events("rollout.aborted", version=number)[-1]["data"]["reason"]


def promoted(house: House, live: int) -> tuple[int, str]:
    """A person promotes a canary before its time."""
    number = house.ship()
    house.wait_event("rollout.step", version=number)
    house.steer("promote")
    return number, ""


def by_hand(house: House, live: int) -> tuple[int, str]:
    """Rollbacks from the API, there and back, each measured until the other version answers."""
    where = path("environments", "production", "endpoints", "m", "rollback")

    def roll_back(now: int) -> None:
        house.client("otto").call("POST", where, body={"reason": "load test"})

    return _there_and_back(house, _previous(house, live), roll_back)


def without_server(house: House, live: int) -> tuple[int, str]:
    """The same by the gateway's files alone, the server being stopped."""
    pair = _previous(house, live)
    server = house.pid_of("server", str(house.home))
    assert server is not None
    os.kill(server, signal.SIGSTOP)
    try:
        token = house.tokens["otto"]
        done = _there_and_back(house, pair, lambda _: offline.take_back(house.home, "production", "m", "load", token))
    finally:
        os.kill(server, signal.SIGCONT)
    house.wait(lambda: house.endpoint()["deployments"]["live"]["version"] == done[0], "the books to follow")
    return done


def turns_bad(house: House, live: int) -> tuple[int, str]:
    """The version that was just promoted turns bad and is rolled back by itself."""
    number = house.ship()
    house.wait_event("rollout.completed", version=number)
    house.wait(lambda: (house.endpoint()["watch"] or {}).get("baseline"), "the watch to begin")
    started = time.perf_counter()
    house.knob(number).write_text("error")
    told = house.wait_event("rollback.completed", **{"from": number})
    took = time.perf_counter() - started
    house.knob(number).unlink()
    return live, f"after {took:.1f} s: {told['data']['reason']}"


def server_killed(house: House, live: int) -> tuple[int, str]:
    """The server is killed in the middle of a canary."""
    return _killed(house, live, house.kill_server, "")


def gateway_killed(house: House, live: int) -> tuple[int, str]:
    """The gateway is killed in the middle of a canary: what it has is cut off, what comes waits for the next one."""
    return _killed(house, live, house.kill_gateway, "requests that it had are lost")


def _killed(house: House, live: int, kill: Callable[[], object], noted: str) -> tuple[int, str]:
    """A canary in whose middle something is killed is to complete; one that does not says why."""
    number = house.ship()
    house.wait_event("rollout.step", version=number)
    kill()
    ends = ("rollout.completed", "rollout.aborted", "rollout.paused")
    told = house.wait(lambda: house.events(*ends, version=number), f"the end of v{number}'s canary")[-1]
    if told["type"] == "rollout.completed":
        return number, noted
    if told["type"] == "rollout.paused":
        house.steer("abort")
    return live, f"NOT COMPLETED, {told['type']}: {told['data'].get('reason')}"


def _aborted(house: House, knob: str) -> str:
    number = house.ship()
    house.wait_event("rollout.step", version=number)
    house.knob(number).write_text(knob)
    return house.wait_event("rollout.aborted", version=number)["data"]["reason"]


def _previous(house: House, live: int) -> tuple[int, int]:
    """(version that serves, the one before it); another is promoted first where nothing was before."""
    previous = house.endpoint()["deployments"].get("previous")
    if previous is not None:
        return live, previous["version"]
    number, _ = canary(house, live)
    return number, live


def _there_and_back(house: House, pair: tuple[int, int], roll_back: Callable[[int], object]) -> tuple[int, str]:
    """An even number of rollbacks; the time of each from its request until an answer comes from the other version,
    and until the request itself is answered: by then it is written down.
    """
    traffic, books = list[float](), list[float]()
    with ThreadPoolExecutor(1) as person:
        for index in range(ROLLBACKS):
            wanted = pair[(index + 1) % 2]
            time.sleep(0.3)  # the yard's own loops are in any phase
            started = time.perf_counter()
            told = person.submit(roll_back, wanted)
            told.add_done_callback(lambda _, since=started: books.append((time.perf_counter() - since) * 1000))
            while house.ask()[1] != str(wanted):
                pass
            traffic.append((time.perf_counter() - started) * 1000)
            told.result()
    return pair[0], f"traffic back after {_spread(traffic)}; told after {_spread(books)}"


def _spread(took_ms: list[float]) -> str:
    return f"{statistics.median(took_ms):.0f} ms (median), {max(took_ms):.0f} ms (slowest of {len(took_ms)})"


SCENES: dict[str, Scene] = {
    "canary completes": canary,
    "abort by error": by_error,
    "abort by slowness": by_slowness,
    "abort by dying worker": by_dying,
    "abort by killed worker": by_kill,
    "promotion by hand": promoted,
    "rollback by hand": by_hand,
    "rollback, server stopped": without_server,
    "rollback by itself": turns_bad,
    "server killed in a canary": server_killed,
    "gateway killed in a canary": gateway_killed,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", default="", help="numbers from 1, separated by commas; all by default")
    chosen = [int(number) for number in parser.parse_args().scenes.split(",") if number]
    names = [name for place, name in enumerate(SCENES, 1) if not chosen or place in chosen]
    lost = 0
    with tempfile.TemporaryDirectory(prefix="yard-") as folder:
        house = House(Path(folder), FAST).start()
        try:
            live = house.first()
            print(f"{'scene':<28}{'requests':>10}{'by it':>8}{'lost':>8}{'slowest s':>11}  note", flush=True)
            for name in names:
                with Flow(house.ask, threads=3, pause_s=0.001) as flow:
                    before = live
                    live, noted = SCENES[name](house, live)
                    house.wait(lambda live=live: house.settled(live), f"v{live} to have all the traffic")
                challenger = flow.failed_by(house.count) if house.count not in (before, live) else 0
                failed = sum(flow.failed.values()) - challenger
                refused = flow.failed.get(("ConnectionRefusedError", 0), 0)
                lost += failed if name != "gateway killed in a canary" else refused
                print(
                    f"{name:<28}{flow.total():>10}{challenger:>8}{failed:>8}{flow.slowest_s:>11.2f}  {noted}",
                    flush=True,
                )
        finally:
            house.stop()
    print(f"requests lost outside the challenger's own answers and what a killed gateway had: {lost}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
