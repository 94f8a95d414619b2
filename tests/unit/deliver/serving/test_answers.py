"""What models answer that is no list of rows: as `mlflow models serve` answers it, over every protocol."""

import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from modelyard.deliver.serving import log_reader, open_inference, typed_rows
from modelyard.deliver.serving.signature import Column, Signature
from tests.unit.deliver.models import coded_model
from tests.unit.deliver.serving.conftest import Plane, opened_plane
from tests.unit.deliver.serving.test_worker import ask, x

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own
JSON = "application/json"
SAID: dict[str, Any] = {
    "number": 0.5,
    "count": np.int64(3),
    "array of no dimension": np.array(0.5),
    "truth": True,
    "text": "late",
    "text as long as the rows": "l",
    "empty text": "",
    "nothing": None,
    "time": datetime.date(2026, 1, 31),
    "values": {"p": np.float32(0.5), "why": "fog"},
    "lists of other lengths": {"p": [1, 2], "why": ["fog"]},
    "lists of one length": {"p": [1, 2], "why": ["fog", "ice"]},
    "arrays": {"p": np.array([0.5]), "why": np.array(["fog"])},
    "nested": {"p": {"mean": [np.int64(1)]}},
    "records": [{"p": 0.5, "why": "fog"}],
    "numbered": {1: "late"},
    "forecast": [1, 2, 3],
    "ragged": [[1], [1, 2]],
    "pair": (1, "late"),
    "frame of more rows": pd.DataFrame({"day": [1, 2, 3]}),
    "no rows": [],
}
ROW = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}


@pytest.fixture(scope="module")
def says(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pyfunc that answers SAID by its parameter."""
    import mlflow

    class Says(mlflow.pyfunc.PythonModel):
        def __init__(self, answers: dict[str, Any]) -> None:
            self.answers = answers

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return self.answers[(params or {})["what"]]

    folder = tmp_path_factory.mktemp("says") / "m"
    signature = mlflow.models.infer_signature(pd.DataFrame({"x": [1.0]}), params={"what": "number"})
    mlflow.pyfunc.save_model(str(folder), python_model=Says(SAID), signature=signature, pip_requirements=["mlflow"])
    return folder


@pytest.fixture(scope="module")
def worker(says: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with opened_plane(tmp_path_factory.mktemp("worker")) as plane:
        plane.worker("v1", says)
        yield plane.socket("v1")


@pytest.fixture(scope="module")
def stock(says: Path) -> Callable[[str], Any]:
    """MLflow's own server, without its socket."""
    from mlflow import pyfunc
    from mlflow.pyfunc import scoring_server

    model = pyfunc.load_model(str(says))
    schema = model.metadata.get_input_schema()
    return lambda body: json.loads(scoring_server.invocations(body, JSON, model, schema).response)


@pytest.mark.parametrize("what", SAID)
def test_mlflow_scoring_answers_what_mlflows_own_server_does(worker: str, stock: Callable[[str], Any], what: str):
    body = json.dumps({**ROW, "params": {"what": what}})
    assert ask(worker, body.encode()) == [(200, stock(body))]


@pytest.mark.parametrize(
    ("what", "one"),
    [
        ("number", 0.5),
        ("text", "late"),
        ("text as long as the rows", "l"),
        ("nothing", None),
        ("values", {"p": 0.5, "why": "fog"}),
        ("arrays", {"p": 0.5, "why": "fog"}),
        ("nested", {"p": {"mean": [1]}}),
        ("records", {"p": 0.5, "why": "fog"}),
        ("forecast", [1, 2, 3]),
    ],
)
def test_a_typed_row_gets_the_answer_as_it_is(what: str, one: Any):
    parsed = typed_rows.parse_typed(b'{"x": 1}', JSON, Signature((Column("x", "double", True),)))
    assert json.loads(parsed.answer(SAID[what]).body) == {"prediction": one}


@pytest.mark.parametrize(
    ("what", "outputs"),
    [
        ("number", {"predict": ("FP64", [1], [0.5])}),
        ("count", {"predict": ("INT64", [1], [3])}),
        ("truth", {"predict": ("BOOL", [1], [True])}),
        ("text", {"predict": ("BYTES", [1], ["late"])}),
        ("nothing", {"predict": ("FP64", [1], [None])}),
        ("time", {"predict": ("BYTES", [1], ["2026-01-31"])}),
        ("values", {"p": ("FP32", [1], [0.5]), "why": ("BYTES", [1], ["fog"])}),
        ("lists of other lengths", {"p": ("INT64", [2], [1, 2]), "why": ("BYTES", [1], ["fog"])}),
        ("nested", {"p": ("BYTES", [1], ['{"mean":[1]}'])}),
        ("records", {"p": ("FP64", [1], [0.5]), "why": ("BYTES", [1], ["fog"])}),
        ("forecast", {"predict": ("INT64", [3], [1, 2, 3])}),
        ("ragged", {"predict": ("BYTES", [2], ["[1]", "[1,2]"])}),
        ("frame of more rows", {"day": ("INT64", [3], [1, 2, 3])}),
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_open_inference_makes_tensors_of_it(what: str, outputs: dict[str, Any], raw: bool):
    inputs = [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]
    body = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": raw}}).encode()
    parsed = open_inference.parse_v2(body, Signature((Column("x", "double", True),)), "m", "1")
    answer = parsed.answer(SAID[what])
    found = json.loads(answer.body[: answer.json_length])["outputs"]
    assert {item["name"]: (item["datatype"], item["shape"]) for item in found} == {
        name: output[:2] for name, output in outputs.items()
    }
    if not raw:
        assert {item["name"]: item["data"] for item in found} == {
            name: data for name, (_, _, data) in outputs.items()
        }


def test_times_and_unknown_numbers_of_a_frame_have_a_tensor_too():
    inputs = [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]
    parsed = open_inference.parse_v2(
        json.dumps({"inputs": inputs}).encode(), Signature((Column("x", "double", True),)), "m", "1"
    )
    frame = pd.DataFrame(
        {"at": [pd.Timestamp("2026-01-31T12:00"), pd.NaT], "n": np.array([1, None], dtype=object), "t": ["a", None]}
    )
    outputs = json.loads(parsed.answer(frame).body)["outputs"]
    assert [(item["datatype"], item["data"]) for item in outputs] == [
        ("BYTES", ["2026-01-31T12:00:00", None]),
        ("FP64", [1.0, None]),
        ("BYTES", ["a", None]),
    ]


WORDS = '''
class Words:
    """Of all rows one word, whose letters are as many as the rows."""

    def predict(self, frame):
        return "w" * len(frame)


class Best:
    """The two largest of all rows."""

    def predict(self, frame):
        return sorted(frame["x"].tolist() if hasattr(frame, "columns") else frame[:, 0].tolist())[-2:]
'''


def words_model(folder: Path, kind: str) -> Path:
    def make(module: ModuleType) -> object:
        return getattr(module, kind)()

    return coded_model(folder, "words", WORDS, make)


def test_requests_never_share_what_cannot_be_told_apart(plane: Plane, tmp_path: Path):
    """scikit-learn's flavor is asked for several requests in one call, until its answers are seen to be no rows."""
    plane.worker("v1", words_model(tmp_path / "words", "Words"))
    for _ in range(2):
        found = ask(plane.socket("v1"), x(1), x(1, 2), x(1), x(1))
        assert found == [(200, {"predictions": "w" * rows}) for rows in (1, 2, 1, 1)]


def test_answers_as_many_as_rows_by_chance_are_not_given_to_others(plane: Plane, tmp_path: Path):
    plane.worker("v1", words_model(tmp_path / "best", "Best"))
    assert ask(plane.socket("v1"), x(1)) == [(200, {"predictions": [1.0]})]
    status, _ = ask(plane.socket("v1"), x(1, 2, 3))[0]
    assert status == 500  # of a model whose rows answer each by itself: some of them are missing
    assert ask(plane.socket("v1"), x(8), x(7)) == [(200, {"predictions": [8.0]}), (200, {"predictions": [7.0]})]


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A gateway whose endpoint answers a text for all rows, with a log."""
    home = tmp_path_factory.mktemp("telling")
    words_model(home / "m", "Words")
    with opened_plane(home) as plane:
        plane.worker("v1", home / "m")
        plane.route(plane.target("v1"), log=home / "log")
        plane.gateway()
        yield plane


def test_the_prediction_log_has_the_inputs_and_of_one_row_the_answer(telling: Plane):
    assert telling.x(1.5)[2] == {"predictions": "w"}
    assert telling.x(2.5, 3.5)[2] == {"predictions": "ww"}
    status, _, body = telling.call("POST", "/endpoints/m/predict", b'{"x": 4.5}', content_type=JSON)
    assert (status, body) == (200, b'{"prediction":"w"}')
    tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [5.5]}
    telling.call("POST", "/v2/models/m/infer", msgspec.json.encode({"inputs": [tensor]}), content_type=JSON)
    status, _, body = telling.call(
        "POST", "/endpoints/m/invocations", b"6.5\n", content_type="text/csv", accept="text/csv"
    )
    assert (status, body) == (200, b"w\n")
    telling.processes["gateway"].terminate()
    telling.processes["gateway"].wait(20)
    log = telling.home / "log"
    table = log_reader.read(log, log_reader.signature_of(telling.home / "m" / "MLmodel"))
    table = table.sort_by("input.x")  # requests of one millisecond have no order of their own
    assert table.column("input.x").to_pylist() == [1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    assert table.column("prediction").to_pylist() == ["w", None, None, "w", "w", "w"]
    assert not list(log.glob("unread/*"))
