"""A gateway's fleet: which workers get requests, which shall run, and what a full disk does to that."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from modelyard.deliver.serving import scaling
from modelyard.deliver.serving.routing import Endpoint, Routing, Scale, Target
from modelyard.deliver.serving.scaling import Fleet, wanted
from modelyard.deliver.serving.upstream import Pool

SCALE = Scale(0, 3, concurrency=2.0, down_after_s=0.0, idle_s=0.0)


def routing(weight: float = 1.0, shadow: bool = False) -> Routing:
    sockets = tuple(f"/nowhere/w-{number}.sock" for number in range(3))
    target = Target("d", 1, sockets, weight, SCALE)
    other = Target("s", 2, sockets, 0.0)
    endpoint = Endpoint("m", (target,), shadow=(other,) if shadow else ())
    return Routing("test", 1, endpoints={"m": endpoint})


def run(folder: Path, work: Callable[[Fleet], Awaitable[None]], awaited: bool = False) -> None:
    async def main() -> None:
        await work(Fleet(folder, Pool(), lambda _: awaited, lambda *_: 0))

    asyncio.run(main())


def test_one_that_nobody_asks_sleeps_and_keeps_its_first_socket(tmp_path: Path):
    async def work(fleet: Fleet) -> None:
        fleet.adopt(routing())
        assert wanted(tmp_path) == {"d": 1}
        await asyncio.sleep(0.01)
        fleet.look()
        assert wanted(tmp_path) == {"d": 0} and fleet.asleep("d")
        assert fleet.told()["d"] == {"ready": 0, "wanted": 0, "min": 0, "max": 3}
        (shown,) = fleet.shown(routing()).endpoints["m"].routes
        assert shown.sockets == ("/nowhere/w-0.sock",)

    run(tmp_path, work)


def test_who_waits_wakes_it(tmp_path: Path):
    (tmp_path / scaling.FILE).write_text('{"workers": {"d": 0}}')

    async def work(fleet: Fleet) -> None:
        fleet.adopt(routing())
        assert fleet.asleep("d")
        fleet.look()
        assert wanted(tmp_path) == {"d": 1} and not fleet.asleep("d")

    run(tmp_path, work, awaited=True)


@pytest.mark.parametrize("kept", [routing(weight=0.0), routing(shadow=True)])
def test_what_is_warm_or_compared_does_not_sleep(tmp_path: Path, kept: Routing):
    async def work(fleet: Fleet) -> None:
        fleet.adopt(kept)
        await asyncio.sleep(0.01)
        fleet.look()
        assert wanted(tmp_path) == {"d": 1}

    run(tmp_path, work)


def test_a_full_disk_stops_no_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def work(fleet: Fleet) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(scaling, "atomic_write", full)
            fleet.adopt(routing())
            fleet.look()
            assert "No space left" in fleet.error and wanted(tmp_path) == {}
        fleet.look()
        assert fleet.error == "" and "d" in wanted(tmp_path)

    run(tmp_path, work)
