"""Prediction logs become Parquet where nobody reads them; what is older than declared goes, and an event tells."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from modelyard.deliver.deployments import log_keeping, places, records
from modelyard.deliver.serving import ground_truth, log_reader
from modelyard.deliver.serving.ground_truth import Label, Labels, TrueLabel
from modelyard.deliver.serving.prediction_log import PARQUET, SEALED, UNREAD, PredictionLog, Record
from modelyard.domain.errors import ConfigError
from modelyard.domain.project import parse_project
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.server import log_keeping as server_log_keeping
from modelyard.server.bootstrap import open_yard
from modelyard.server.settings import Settings
from tests.conftest import wait_until
from tests.unit.deliver.deployments.house import FAST, House
from tests.unit.deliver.models import coded_model

HOUR = log_reader.HOUR_MS
ODD = "class Odd:\n    pass\n"


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return coded_model(tmp_path / "m", "odd", ODD, lambda module: module.Odd()) / "MLmodel"


def logged(folder: Path, time_ms: int, body: bytes = b'{"inputs": {"x": [1.0]}}', caller_id: str = "") -> None:
    """A sealed segment of one request that was answered at a time."""
    record = Record(
        f"r{time_ms}",
        caller_id,
        time_ms,
        "d",
        1,
        200,
        1,
        "invocations",
        "application/json",
        body,
        b'{"predictions": [2.0]}',
    )

    async def write() -> None:
        log = PredictionLog(folder)
        log.add(record)
        log.close()

    before = set(folder.glob(f"*{SEALED}"))
    asyncio.run(write())
    (segment,) = set(folder.glob(f"*{SEALED}")) - before
    os.rename(segment, folder / f"{time_ms:013d}-{segment.name.partition('-')[2]}")


def test_segments_become_parquet_and_old_hours_go(tmp_path: Path, model_file: Path) -> None:
    folder = tmp_path / "log"
    now = 500_000 * HOUR
    for age in (0, 2, 48):
        logged(folder, now - age * HOUR)
        assert log_keeping.keep(folder, model_file, 0) == {"compacted": 1, "forgotten": 0, "labels": 0}
    logged(folder / "shadow", now - 48 * HOUR)
    logged(folder, now - 72 * HOUR, b"nothing that can be read")
    signature = log_reader.signature_of(model_file)
    assert log_reader.read(folder, signature).num_rows == 3
    assert log_keeping.keep(folder, model_file, now - 24 * HOUR) == {"compacted": 1, "forgotten": 4, "labels": 0}
    kept = log_reader.read(folder, signature).column("time_ms").to_pylist()
    assert kept == [now - 2 * HOUR, now]
    assert not list((folder / UNREAD).iterdir()) and not list((folder / "shadow" / PARQUET).iterdir())
    assert log_keeping.keep(folder, model_file, now - 24 * HOUR) == {"compacted": 0, "forgotten": 0, "labels": 0}


def test_labels_go_with_their_predictions(tmp_path: Path, model_file: Path) -> None:
    folder, now = tmp_path / "log", 500_000 * HOUR
    before = now - 24 * HOUR
    old, young = now - 48 * HOUR, now - 2 * HOUR
    for time in (old, young):
        logged(folder, time, caller_id=f"order-{time}")

    def sent(identity: str, came: int) -> None:
        labels = Labels([TrueLabel(identity, 1.0, time=1)])  # the sender's own time says nothing of when it came
        ground_truth.append(folder, labels.at(came))

    of_old = [f"r{old}:0", f"r{old}", f"order-{old}", f"order-{old}:0"]
    of_young = [f"r{young}:0", f"order-{young}"]
    for identity in (*of_old, *of_young, "not logged, or not here yet"):
        sent(identity, now)
    sent("never logged", old)
    assert log_keeping.keep(folder, model_file, 0)["labels"] == 0
    assert log_keeping.keep(folder, model_file, before) == {"compacted": 0, "forgotten": 1, "labels": 5}
    left = [*of_young, "not logged, or not here yet"]
    assert list(ground_truth.read(folder)) == left
    sent(of_old[0], now)  # too late: it joins nothing, and goes once it has been here as long as predictions are kept
    assert log_keeping.keep(folder, model_file, before)["labels"] == 0
    assert log_keeping.keep(folder, model_file, now + 2 * HOUR)["labels"] == 4
    assert (folder / ground_truth.FILE).stat().st_mode & 0o777 == 0o600 and ground_truth.read(folder) == {}


def test_labels_that_come_while_others_go_are_kept(tmp_path: Path) -> None:
    ground_truth.append(tmp_path, [Label("old", 1.0, 1), Label("young", 1.0, 1)])
    begun = threading.Event()

    def gone(label: Label) -> bool:
        begun.set()
        wait_until(lambda: f"-> FLOCK  ADVISORY  WRITE {os.getpid()} " in Path("/proc/locks").read_text(), "a writer")
        return label.id == "old"

    with ThreadPoolExecutor() as pool:
        going = pool.submit(ground_truth.forget_labels, tmp_path, gone)
        assert begun.wait(20)
        coming = pool.submit(ground_truth.append, tmp_path, [Label("new", 1.0, 1)])
        assert (going.result(30), coming.result(30)) == (1, 1)
    assert list(ground_truth.read(tmp_path)) == ["young", "new"]


def test_how_long_is_a_duration() -> None:
    text = '[project]\nname = "t"\n[models.m]\ntask = "binary"\n[models.m.serving.log]\nkeep = "{}"\n'
    assert parse_project(text.format("90d"), "f").models["m"].serving.log.keep == "90d"
    with pytest.raises(ConfigError, match=r"serving\.log\.keep"):
        parse_project(text.format("long"), "f")


@pytest.mark.slow
def test_the_server_keeps_what_its_gateways_logged(yard: Callable[..., House]) -> None:
    house = yard(f'{FAST}\n[models.m]\ntask = "regression"\n\n[models.m.serving.log]\nkeep = "2h"\n')
    house.first()
    folder = places.predictions(house.home, "production", "m")
    house.wait(lambda: [*folder.glob("*.open")], "the log")
    house.stop()
    logged(folder, now_ms() - 5 * HOUR)

    async def look() -> list[dict[str, Any]]:
        opened = open_yard(house.home, house.project, Settings())
        try:
            endpoints = await opened.store.read(lambda conn: records.find_endpoints(conn, "production"))
            await server_log_keeping.look(opened, endpoints[0])
            found = await opened.store.read(lambda conn: log.read(conn, types=["predictions.forgotten"]))
            return [event.data for event in found]
        finally:
            opened.store.close()

    (told,) = asyncio.run(look())
    assert (told["environment"], told["model"], told["forgotten"]) == ("production", "m", 1)
    assert len(list((folder / PARQUET).glob("*/*.parquet"))) >= 1 and not list(folder.glob(f"*{SEALED}"))
