"""A worker, a real process, asked over its socket."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import yaml

from modelyard.build.pipelines import model_format
from modelyard.deliver.serving import frames, probe
from modelyard.deliver.serving.frames import Frame, RequestMeta
from modelyard.deliver.serving.upstream import Upstream
from tests.conftest import wait_until
from tests.unit.deliver.serving.conftest import Plane, manifest, numeric_model, odd_model


def x(*values: Any) -> bytes:
    return json.dumps({"inputs": {"x": list(values)}}).encode()


def ask(socket: str, *requests: bytes, path: str = "invocations") -> list[tuple[int, Any]]:
    """(status, answer) of requests that are written together, and so arrive together."""

    async def run() -> list[Frame]:
        upstream = Upstream(socket)
        meta = msgspec.json.encode(RequestMeta(path))
        await upstream.ask(frames.PING, b"", b"")
        try:
            async with asyncio.timeout(20):
                return await asyncio.gather(*(upstream.ask(frames.REQUEST, meta, body) for body in requests))
        finally:
            upstream.close()

    return [(frame.answer().status, json.loads(frame.body)) for frame in asyncio.run(run())]


def test_its_state_is_known_by_ping(plane: Plane, odd: Path):
    process = plane.worker("v1", odd, 7)
    state = plane.ready("v1")
    assert (state["ready"], state["pid"], state["deployment"], state["version"]) == (True, process.pid, "v1", 7)


def test_its_memory_is_known_by_ping(plane: Plane, odd: Path):
    plane.worker("v1", odd)
    assert plane.ready("v1")["rss_mb"] > 1


def test_requests_that_arrive_together_are_one_call_of_the_model(plane: Plane, odd: Path):
    """-4 is answered with the rows of the call: 8 requests of 1 to 8 rows."""
    plane.worker("v1", odd)
    found = ask(plane.socket("v1"), *(x(*[-4] * rows) for rows in range(1, 9)))
    assert found == [(200, {"predictions": [36.0] * rows}) for rows in range(1, 9)]


def test_answers_of_a_merged_call_go_to_whom_they_belong(plane: Plane, odd: Path):
    plane.worker("v1", odd)
    requests = [list(range(start, start + start % 4)) for start in range(50)]
    found = ask(plane.socket("v1"), *(x(*values) for values in requests))
    assert found == [(200, {"predictions": [2.0 * value for value in values]}) for values in requests]


def test_one_bad_request_does_not_fail_its_neighbours(plane: Plane, odd: Path):
    plane.worker("v1", odd)
    found = ask(plane.socket("v1"), x(1), x(-1), x("no"), b"{", x(2))
    assert [status for status, _ in found] == [200, 500, 400, 400, 200]
    assert (found[0][1], found[4][1]) == ({"predictions": [2.0]}, {"predictions": [4.0]})


def test_models_not_known_to_be_vectorised_are_asked_one_request_at_a_time(plane: Plane, tmp_path: Path, gate: Path):
    folder = odd_model(tmp_path / "own", gate, flavor="python_function")
    described = yaml.safe_load((folder / "MLmodel").read_text())
    described["flavors"]["python_function"] |= {"loader_module": "odd_loader", "data": "model.pkl"}
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    (folder / "code" / "odd_loader.py").write_text(
        "import pickle\n\n\ndef _load_pyfunc(path):\n    return pickle.load(open(path, 'rb'))\n"
    )
    plane.worker("v1", folder)
    assert ask(plane.socket("v1"), x(-4), x(-4)) == [(200, {"predictions": [1.0]})] * 2


def test_more_rows_than_a_batch_holds_are_all_answered(plane: Plane, odd: Path):
    plane.worker("v1", odd)
    found = ask(plane.socket("v1"), x(*[-4] * 3000), x(*[-4] * 3000), x(*[-4] * 5000))
    assert [answer["predictions"][0] for _, answer in found] == [3000.0, 3000.0, 5000.0]
    assert [len(answer["predictions"]) for _, answer in found] == [3000, 3000, 5000]


def test_a_file_that_was_changed_keeps_it_from_starting(plane: Plane, odd: Path, tmp_path: Path):
    spec = plane.spec("v1", odd)
    (odd / "code" / "odd.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert plane.launch_worker("v1", spec).wait(20) == 1
    log = plane.log("v1")
    assert "m v1 cannot be served" in log and "odd.py does not match its approved digest" in log
    assert "Traceback" not in log and not (tmp_path / "ran").exists()
    assert not Path(plane.socket("v1")).exists()


def test_it_starts_again_in_a_folder_it_was_started_in(plane: Plane, odd: Path):
    approved = manifest(odd)
    process = plane.launch(
        "v1", "modelyard.deliver.serving.worker", "--spec", str(plane.spec("v1", odd)), bytecode=True
    )
    plane.ready("v1")
    process.kill()
    process.wait(10)
    assert manifest(odd) == approved


def test_a_sigterm_answers_what_is_being_worked_on(plane: Plane, odd: Path, gate: Path):
    process = plane.worker("v1", odd)

    async def run() -> int:
        asked = asyncio.ensure_future(probe.predict(plane.socket("v1"), x(-3)))
        await asyncio.to_thread(wait_until, Path(f"{gate}.waiting").exists, "the model to be busy")
        process.send_signal(signal.SIGTERM)
        gate.touch()
        return (await asked)[0]

    assert asyncio.run(run()) == 200
    assert process.wait(10) == 0
    assert not Path(plane.socket("v1")).exists()


def test_a_socket_left_by_a_killed_worker_is_no_hindrance(plane: Plane, odd: Path):
    plane.worker("v1", odd).kill()
    wait_until(lambda: plane.processes["v1"].poll() is not None, "the end")
    assert Path(plane.socket("v1")).exists()
    assert asyncio.run(probe.ask(plane.socket("v1"))) is None
    plane.worker("v1", odd)
    assert ask(plane.socket("v1"), x(1)) == [(200, {"predictions": [2.0]})]


def test_a_peer_that_talks_nonsense_is_hung_up_on_and_others_are_not(plane: Plane, odd: Path):
    plane.worker("v1", odd)

    async def run() -> bytes:
        reader, writer = await asyncio.open_unix_connection(plane.socket("v1"))
        writer.write(b"GET / HTTP/1.1\r\n\r\n" * 20)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        return answer

    assert asyncio.run(run()) == b""
    assert ask(plane.socket("v1"), x(1))[0][0] == 200


def test_no_body_costs_other_requests_their_connection(plane: Plane, odd: Path):
    plane.worker("v1", odd)
    tensor = {"name": "x", "shape": [True], "datatype": "FP64", "data": [1]}
    ((status, _),) = ask(plane.socket("v1"), json.dumps({"inputs": [tensor]}).encode(), path="v2/models/m/infer")
    assert status == 400


def test_a_value_that_the_model_cannot_take_is_named(plane: Plane, tmp_path: Path):
    """Its neighbours in the same call are answered."""
    numeric_model(tmp_path / "numbers")
    plane.worker("v1", tmp_path / "numbers")
    columns, good = ["a", "b", "c", "d"], [1.0, 2.0, 3.0, 4.0]

    def body(*rows: list[float | None]) -> bytes:
        return json.dumps({"dataframe_split": {"columns": columns, "data": rows}}).encode()

    found = ask(plane.socket("v1"), body(good), body(good, [1.0, 2.0, None, 4.0]), body(good))
    assert [status for status, _ in found] == [200, 400, 200]
    assert found[1][1]["message"] == "'c' is missing in row 1; this model takes finite numbers only."


def test_a_null_where_the_model_needs_text_is_named(plane: Plane, tmp_path: Path):
    from sklearn.compose import make_column_transformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = pd.DataFrame({"note": ["late again", "calm sea"] * 10, "x": [1.0, 2.0] * 10})
    prepared = make_column_transformer((TfidfVectorizer(), "note"), ("passthrough", ["x"]))
    model_format.save(make_pipeline(prepared, LogisticRegression()).fit(rows, [0, 1] * 10), tmp_path / "m", rows)
    plane.worker("v1", tmp_path / "m")

    def body(*notes: str | None) -> bytes:
        return json.dumps({"inputs": {"note": notes, "x": [1.0] * len(notes)}}).encode()

    found = ask(plane.socket("v1"), body("late"), body("calm", None), body("sea"))
    assert [status for status, _ in found] == [200, 400, 200]
    says = "Column 'note', row 1: the model takes no missing value here; expected text, found nothing (null)."
    assert found[1][1]["message"] == says
    assert ask(plane.socket("v1"), b'{"note": null, "x": 1}', path="predict")[0][0] == 422
