"""The prediction log, from a gateway's answers to rows: nothing lost, nothing that should not be there."""

import contextlib
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelyard.deliver.deployments import explaining, predictions_read
from modelyard.deliver.serving import ground_truth, log_reader
from modelyard.deliver.serving.capture import SHADOW
from modelyard.deliver.serving.ground_truth import Label
from modelyard.deliver.serving.prediction_log import FRAME, Record, read_segment
from modelyard.deliver.serving.redaction import redact
from modelyard.deliver.serving.signature import Column, Signature
from tests.conftest import wait_until
from tests.unit.deliver.serving.conftest import Plane, numeric_model, odd_model

JSON = "application/json"
X = Signature((Column("x", "double", True),))


def records(folder: Path) -> list[Record]:
    files = [*folder.glob("*.open"), *folder.glob("*.segment")]
    return [record for file in files for record in read_segment(file)]


def fill(file: Path) -> None:
    """Leave no page of a disk free."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 4096)


def logged(plane: Plane, folder: Path, **policy: Any) -> None:
    policy = {"folder": str(folder), **policy}
    plane.route_endpoints({"m": {"model": "m", "routes": [plane.target("v1")], "log": policy}})


def test_a_kill_9_loses_no_answer_that_was_durable(plane: Plane, odd: Path, tmp_path: Path):
    plane.worker("v1", odd)
    logged(plane, tmp_path / "log", capture="durable")
    process = plane.gateway()
    given = [plane.x(float(value))[1]["x-prediction-id"] for value in range(20)]
    process.kill()
    process.wait(10)
    assert [record.id for record in records(tmp_path / "log")] == given


def test_a_durable_answer_that_cannot_be_recorded_is_not_given(plane: Plane, odd: Path, small_disk: Path):
    plane.worker("v1", odd)
    logged(plane, small_disk / "log", capture="durable")
    plane.gateway()
    assert plane.x(1.0)[0] == 200
    fill(small_disk / "filler")
    rows = [float(number) for number in range(2000)]
    asked = wait_until(lambda: (found := plane.x(*rows))[0] == 503 and [found], "the disk to be full")
    assert "could not be recorded" in asked[0][2]["message"]
    (small_disk / "filler").unlink()
    assert plane.x(1.0)[0] == 200


def test_rows_are_read_with_their_ids_and_joined_with_labels(plane: Plane, odd: Path, tmp_path: Path):
    plane.worker("v1", odd)
    logged(plane, tmp_path / "log")
    plane.gateway()
    _, headers, _ = plane.x(1.0, 2.0, x_request_id="order-1")
    plane.x(3.0, x_request_id="order-2")
    plane.call("POST", "/endpoints/m/predict", b'{"x": 4}')
    identity = headers["x-prediction-id"]
    wait_until(lambda: log_reader.read(tmp_path / "log", X).num_rows == 4, "the log, which follows the answers")
    found = log_reader.read(tmp_path / "log", X)
    assert found.column("prediction").to_pylist() == [2.0, 4.0, 6.0, 8.0]
    assert found.column("input.x").to_pylist() == [1.0, 2.0, 3.0, 4.0]
    assert found.column("prediction_id").to_pylist()[:2] == [f"{identity}:0", f"{identity}:1"]
    assert found.column("caller_id").to_pylist() == ["order-1", "order-1", "order-2", ""]
    now = [Label("order-2", 1.0, 1), Label(f"{identity}:1", 0.0, 1), Label("order-1:0", 1.0, 2)]
    ground_truth.append(tmp_path / "log", now)
    joined = ground_truth.join(found, ground_truth.newest(tmp_path / "log"))
    assert joined.column("label").to_pylist() == [1.0, 0.0, 1.0, None]


def test_what_shadows_answered_is_logged_apart_under_the_same_ids(
    plane: Plane, odd: Path, tmp_path: Path, gate: Path
):
    plane.worker("v1", odd)
    plane.worker("v2", odd_model(tmp_path / "two", gate, 3.0), 2)
    plane.route(plane.target("v1"), shadow=(plane.target("v2", version=2),), log=tmp_path / "log")
    plane.gateway()
    given = [plane.x(value)[1]["x-prediction-id"] for value in (0.0, 1.0)]
    wait_until(lambda: plane.counted("v2")["shadow_compared"] == 2, "the shadow's answers")
    assert plane.counted("v2")["shadow_equal"] == 1
    shadowed = wait_until(lambda: len(found := records(tmp_path / "log" / SHADOW)) == 2 and found, "the shadow log")
    assert isinstance(shadowed, list)
    assert sorted(record.id for record in shadowed) == sorted(given)
    wait_until(lambda: log_reader.read(tmp_path / "log", X).num_rows == 2, "the log, which follows the answers")


def test_named_columns_are_never_written(plane: Plane, odd: Path, tmp_path: Path):
    plane.worker("v1", odd)
    logged(plane, tmp_path / "log", redact=["name"])
    plane.gateway()
    plane.predict({"dataframe_records": [{"x": 1.0, "name": "Jane Doe"}]})
    plane.predict({"dataframe_split": {"columns": ["name", "x"], "data": [["Jane Doe", 2.0]]}})
    plane.call("POST", "/endpoints/m/invocations", b"x,name\n3,Jane Doe\n", content_type="text/csv")
    wait_until(lambda: log_reader.read(tmp_path / "log", X).num_rows == 3, "the log, which follows the answers")
    assert sorted(log_reader.read(tmp_path / "log", X).column("input.x").to_pylist()) == [1.0, 2.0, 3.0]
    written = b"".join(file.read_bytes() for file in (tmp_path / "log").rglob("*") if file.is_file())
    assert b"Jane" not in written


@pytest.mark.parametrize(
    ("body", "path", "media"),
    [
        (b'{"instances": [[1, "secret"]]}', "invocations", "application/json"),
        (b'{"inputs": [[1, "secret"]]}', "invocations", "application/json"),
        (b"1,secret\n", "invocations", "text/csv"),
        (b"secret", "invocations", "application/json"),
        (b'{"inputs": [{"name": "all", "data": ["secret"]}]}', "v2/models/m/infer", "application/json"),
        (b'{"other": "secret"}', "invocations", "application/json"),
        (b'{"name": "secret", "x": 1}', "predict", "application/json"),
        (b'[{"name": "secret"}]', "predict", "application/json"),
        (b'{"inputs": {"name": ["secret"], "x": [1]}}', "invocations", "application/json"),
        (b'{"inputs": [{"name": "name", "data": ["secret"]}]}', "v2/models/m/infer", "application/json"),
    ],
)
def test_what_cannot_be_told_apart_is_not_written_at_all(body: bytes, path: str, media: str):
    assert b"secret" not in redact(body, path, media, frozenset({"name"}))


@pytest.mark.parametrize(
    ("body", "path", "media"),
    [
        (b"\xef\xbb\xbfname,age\nsecret,3\n", "invocations", "text/csv"),
        (b"age,name\r3,secret\r", "invocations", "text/csv"),
        (b'{"inputs": {"name": ["secret"], "age": [NaN]}}', "invocations", "application/json"),
        (
            b'{"dataframe_split": {"columns": ["name", "age"], "data": [["secret", NaN]]}}',
            "invocations",
            "application/json",
        ),
        (b'{"name": "secret", "age": NaN}', "predict", "application/json"),
    ],
)
def test_columns_are_taken_out_of_bodies_as_other_programs_write_them(body: bytes, path: str, media: str):
    found = redact(body, path, media, frozenset({"name"}))
    assert b"secret" not in found and b"age" in found


def test_rows_without_names_are_logged_without_a_column(plane: Plane, tmp_path: Path):
    numeric_model(tmp_path / "m")
    plane.worker("v1", tmp_path / "m")
    names = ["a", "b", "c", "d"]
    policy, target = {"folder": str(tmp_path / "log"), "redact": ["b"]}, plane.target("v1") | {"columns": names}
    plane.route_endpoints({"m": {"model": "m", "routes": [target], "log": policy}})
    plane.gateway()
    for body, media in ((b"1,70.25,3,4\n2,70.25,3,4\n", "text/csv"), (b'{"instances":[[3,70.25,3,4]]}', JSON)):
        assert plane.call("POST", "/endpoints/m/invocations", body, content_type=media)[0] == 200
    signature = Signature(tuple(Column(name, "double", True) for name in names))
    wait_until(lambda: log_reader.read(tmp_path / "log", signature).num_rows == 3, "the log")
    found = log_reader.read(tmp_path / "log", signature)
    assert sorted(found.column("input.a").to_pylist()) == [1.0, 2.0, 3.0]
    assert found.column("input.b").null_count == 3 and found.column("prediction").null_count == 0
    written = b"".join(file.read_bytes() for file in (tmp_path / "log").rglob("*") if file.is_file())
    assert b"70.25" not in written


@pytest.mark.parametrize(
    ("body", "path", "media", "found"),
    [
        (b"3,secret,Rome\n4,secret,\n", "invocations", "text/csv", b"age,city\n3,Rome\n4,\n"),
        (b"city,age\nRome,3\n", "invocations", "text/csv", b"city,age\nRome,3\n"),  # a header that lacks it
        (b"3,secret\n", "invocations", "text/csv", b""),  # another model's rows
        (b"3,secret,Rome\n4,secret\n", "invocations", "text/csv", b""),
        (b'{"instances":[[3,"secret","Rome"]]}', "invocations", JSON, b'{"instances":[{"age":3,"city":"Rome"}]}'),
        (b'{"inputs":[[3,"secret","Rome"]]}', "invocations", JSON, b'{"inputs":[{"age":3,"city":"Rome"}]}'),
        (b'[[3,"secret","Rome"]]', "predict", JSON, b'[{"age":3,"city":"Rome"}]'),
        (b'[[3,"secret"]]', "predict", JSON, b""),
        (b'[[3,"secret","Rome"],{"name":"secret"}]', "predict", JSON, b""),
    ],
)
def test_rows_without_names_are_of_the_models_columns(body: bytes, path: str, media: str, found: bytes):
    assert redact(body, path, media, frozenset({"name"}), ("age", "name", "city")) == found


def test_a_column_named_by_a_number_is_taken_out_by_its_text():
    body = b'{"dataframe_split": {"columns": [7, "age"], "data": [["secret", 3]]}}'
    assert b"secret" not in redact(body, "invocations", "application/json", frozenset({"7"}))
    tensors = b'{"inputs": [{"name": 7, "data": ["secret"]}, {"name": "age", "data": [3]}]}'
    assert b"secret" not in redact(tensors, "v2/models/m/infer", "application/json", frozenset({"7"}))


def test_a_sample_is_drawn_by_the_id(plane: Plane, odd: Path, tmp_path: Path):
    plane.worker("v1", odd)
    logged(plane, tmp_path / "log", sample=0.5)
    plane.gateway()
    given = [plane.x(1.0)[1]["x-prediction-id"] for _ in range(30)]
    expected = [identity for identity in given if int(identity[:8], 16) < 2**31]
    wait_until(lambda: len(records(tmp_path / "log")) == len(expected), "the log, which follows the answers")
    assert [record.id for record in records(tmp_path / "log")] == expected and 0 < len(expected) < 30


def sealed(
    folder: Path, time: int, content: str, answer: bytes, named: bool = False, caller: str = "", deployment: str = "d"
) -> None:
    """A segment of one record, as the writer frames it."""
    asked = (f"{time:032x}", caller, time, deployment, 1, 200, 5)
    record = Record(*asked, "invocations", "application/json", content.encode(), answer, named=named)
    payload = msgspec.msgpack.encode([record])
    framed = FRAME.pack(len(payload), zlib.crc32(payload)) + payload
    (folder / f"{time}-aaaa.segment").write_bytes(framed)


def test_segments_become_parquet_by_hour_and_later_readers_skip_earlier_hours(tmp_path: Path):
    hour = 1_700_000_000_000 // 3_600_000 * 3_600_000
    for number in range(3):
        sealed(tmp_path, hour + number * 3_600_000, f'{{"inputs": {{"x": [{number}]}}}}', b'{"predictions":[1.0]}')
    assert log_reader.compact(tmp_path, X) == 3 and log_reader.compact(tmp_path, X) == 0
    hours = sorted(file.parent.name for file in (tmp_path / "parquet").rglob("*.parquet"))
    assert hours == ["2023-11-14T22", "2023-11-14T23", "2023-11-15T00"]
    assert log_reader.read(tmp_path, X).column("input.x").to_pylist() == [0.0, 1.0, 2.0]
    for file in (tmp_path / "parquet" / "2023-11-14T22").iterdir():
        file.write_bytes(b"not opened by who asks for later hours")
    assert log_reader.read(tmp_path, X, since_ms=hour + 2 * 3_600_000).column("input.x").to_pylist() == [2.0]


def test_rewards_and_drift_leave_out_who_named_the_deployment(tmp_path: Path):
    for time, named in ((1, False), (2, True)):
        sealed(tmp_path, time, '{"inputs": {"x": [1]}}', b'{"predictions":[%d.0]}' % time, named)
    model = tmp_path / "MLmodel"
    model.write_text('signature: {inputs: \'[{"name": "x", "type": "double"}]\', outputs: null, params: null}\n')
    assert predictions_read.by_deployment(tmp_path, model, 0, None) == {"d": {"predictions": [1.0], "rewards": []}}


@pytest.mark.parametrize("name", [f"{1:032x}", f"{1:032x}:0", "order-7", "order-7:0"])
def test_a_reward_may_come_under_every_id_that_a_label_may_have(tmp_path: Path, name: str):
    sealed(tmp_path, 1, '{"inputs": {"x": [1]}}', b'{"predictions":[1.0]}', caller="order-7")
    ground_truth.append(tmp_path, [Label(name, 0.5, 1)])
    model = tmp_path / "MLmodel"
    model.write_text('signature: {inputs: \'[{"name": "x", "type": "double"}]\', outputs: null, params: null}\n')
    assert predictions_read.by_deployment(tmp_path, model, 0, "label")["d"]["rewards"] == [0.5]


def test_rewards_and_drift_take_in_what_a_shadow_answered(tmp_path: Path):
    (tmp_path / SHADOW).mkdir()
    sealed(tmp_path, 1, '{"inputs": {"x": [1]}}', b'{"predictions":[1.0]}')
    sealed(tmp_path / SHADOW, 1, '{"inputs": {"x": [1]}}', b'{"predictions":[3.0]}', deployment="s")
    ground_truth.append(tmp_path, [Label(f"{1:032x}:0", 3.0, 1)])
    model = tmp_path / "MLmodel"
    model.write_text('signature: {inputs: \'[{"name": "x", "type": "double"}]\', outputs: null, params: null}\n')
    assert predictions_read.by_deployment(tmp_path, model, 0, "correct") == {
        "d": {"predictions": [1.0], "rewards": [0.0]},
        "s": {"predictions": [3.0], "rewards": [1.0]},
    }


def test_answers_that_this_signature_cannot_read_are_kept(tmp_path: Path):
    sealed(tmp_path, 1, '{"inputs": {"x": ["text"]}}', b'{"predictions":[1.0]}')
    log_reader.compact(tmp_path, X)
    assert (tmp_path / "unread" / "1-aaaa.segment").exists()


def test_a_full_disk_fails_no_answer_and_is_said(plane: Plane, odd: Path, small_disk: Path):
    """Also at an endpoint whose answers do not wait for their record: it says why, and when it is over."""
    plane.worker("v1", odd)
    plane.route(plane.target("v1"), log=small_disk / "log")
    plane.gateway()

    def told() -> dict[str, Any]:
        return plane.stats()["endpoints"]["m"]

    assert plane.x(1.0)[0] == 200
    wait_until(lambda: log_reader.read(small_disk / "log", X).num_rows, "the log, which follows the answer")
    fill(small_disk / "filler")
    rows = [float(number) for number in range(2000)]  # more than what a page has left

    def refused() -> bool:
        assert plane.x(*rows)[0] == 200
        return bool(told()["dropped_log_rows"])

    wait_until(refused, "the disk to be full")
    assert told()["log_error"] == "No space left on device"
    assert explaining.of_log("m", plane.stats())[0].startswith("the prediction log cannot be written: No space left")
    assert "No space left on device" in plane.log("gateway")
    (small_disk / "filler").unlink()
    dropped = told()["dropped_log_rows"]
    assert plane.x(-7.0)[0] == 200
    wait_until(lambda: "log_error" not in told(), "the log to be written again")
    assert "is written again" in plane.log("gateway") and told()["dropped_log_rows"] == dropped
    assert "since the gateway started" in explaining.of_log("m", plane.stats())[0]
    assert -7.0 in log_reader.read(small_disk / "log", X).column("input.x").to_pylist()
