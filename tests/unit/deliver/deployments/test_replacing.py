"""What a worker is given changes while it serves: another takes its place, and no request fails."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from modelyard.deliver.deployments import places
from modelyard.deliver.serving import probe
from tests.unit.deliver.deployments.house import FAST, House

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
GIVEN = '[models.m]\ntask = "regression"\n[models.m.serving]\n'


def test_what_a_file_declares_reaches_workers_that_serve(yard: Callable[..., House]) -> None:
    house = yard(FAST)
    one = house.first()
    live = house.endpoint()["deployments"]["live"]["id"]
    first = house.worker_pid(live)
    file = house.project / "deployments.toml"
    file.write_text(f"[production.m]\nversion = {one}\nworkers = 2\nmemory_mb = 3000\n")
    shown = house.command("apply", "--dry-run")
    assert "    workers: as the model's\n           -> 2\n" in shown and "-> 3000\n" in shown
    with house.flow(threads=3) as flow:
        house.command("apply", "--yes")
        house.wait(lambda: house.worker_pid(live) not in (None, first), "another worker")
        beside = str(places.worker_socket(house.home, live, 1))
        second = house.wait(lambda: asyncio.run(probe.ask(beside)), "the second worker to answer")
        assert second["memory_mb"] == 3000
        house.wait(lambda: house.endpoint()["differences"] == [], "nothing to differ")
    assert flow.failed == {} and "Nothing to change" in house.command("apply")
    assert "2 each" in house.command("endpoints")

    file.write_text(f"[production.m]\nversion = {one}\nray = '10.0.0.5:6379'\n")
    assert "production.m.ray without target = 'ray'" in house.command("apply", "--yes", fails=True)
    file.write_text(f"[production.m]\nversion = {one}\n")
    assert "    memory_mb: 3000\n             -> as the model's\n" in house.command("apply", "--yes")


def test_a_changed_project_reaches_workers_that_serve(yard: Callable[..., House]) -> None:
    house = yard(FAST + GIVEN + "memory_mb = 3000\n")
    one = house.first()
    live = house.endpoint()["deployments"]["live"]["id"]
    supervisor = house.note("gateway-production")["pid"]

    def state(number: int = 0) -> dict[str, Any]:
        return asyncio.run(probe.ask(str(places.worker_socket(house.home, live, number)))) or {}

    def reload(given: str) -> str:
        (house.project / "modelyard.toml").write_text(FAST + GIVEN + given)
        return house.command("reload")

    first = state()["pid"]
    with house.flow(threads=3) as flow:
        assert "anew; gateways and workers go on.\n" in reload("memory_mb = 4000\nworkers = 2\n")
        house.wait(lambda: state(1) and state().get("memory_mb") == 4000, "two workers with more memory")
        house.wait(lambda: flow.total() > 100, "enough traffic")
    assert flow.failed == {}
    assert state()["pid"] != first
    house.wait(lambda: house.worker_pid(live) == state()["pid"], "the supervisor's word on it")

    # what has not the memory to start (it ends, or hangs) replaces nothing, and is said
    with house.flow(threads=3) as flow:
        reload("memory_mb = 64\nworkers = 2\n")
        said = f"the live v{one}'s worker serves until another takes its place: memory_mb 4000, wanted 64"
        house.wait(lambda: said in house.command("endpoints"), "the difference to be said")
        assert state()["memory_mb"] == state(1)["memory_mb"] == 4000
        reload("memory_mb = 4000\n")
        house.wait(lambda: house.endpoint()["differences"] == [] and not state(1), "one worker as it was")
    assert flow.failed == {} and flow.answered == {str(one)}

    # what only a new start brings is said; a file that does not hold is refused while everything goes on
    assert "environments.x: with the next start" in reload("memory_mb = 4000\n[environments.x]\n")
    (house.project / "modelyard.toml").write_text("[project\n")
    assert "modelyard.toml" in house.command("reload", fails=True)
    (house.project / "modelyard.toml").write_text(FAST + '[notify.team]\nurl = "slak://hunter2/x"\n')
    said = house.command("reload", fails=True)
    assert "notify.team.url: Apprise knows no service slak://" in said and "hunter2" not in said
    assert house.ask() == (200, str(one)) and house.note("gateway-production")["pid"] == supervisor
