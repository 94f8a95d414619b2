"""`modelyard serve`: one process, every protocol on one port."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from tests.conftest import wait_until
from tests.ports import free_port
from tests.unit.deliver.serving.conftest import numeric_model


@dataclass
class Served:
    port: int
    process: "subprocess.Popen[str]"
    model: Any
    rows: Any

    def call(self, path: str, content: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        body = content if isinstance(content, bytes | None) else json.dumps(content).encode()
        named = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", body, named)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()


def start(folder: Path) -> tuple[int, "subprocess.Popen[str]"]:
    port = free_port()
    command = [sys.executable, "-m", "modelyard", "serve", str(folder), "--port", str(port), "--name", "m"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"it ended: {process.stdout.read() if process.stdout else ''}")
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).status == 200
        except OSError:
            return False

    wait_until(answers, "the model to be served", deadline_s=90)
    return port, process


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("model") / "m"
    model, rows = numeric_model(folder)
    port, process = start(folder)
    yield Served(port, process, model, rows)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode in (0, -15)


def test_sagemakers_contract(served: Served):
    """Healthy by an empty 200 within its time; CSV without a header, as its clients send it."""
    assert served.call("ping")[0] == 200
    body = served.rows.head(2).to_csv(index=False, header=False).encode()
    status, _, answer = served.call("invocations", body, content_type="text/csv")
    assert status == 200
    np.testing.assert_allclose(json.loads(answer)["predictions"], served.model.predict_proba(served.rows.head(2)))
    status, headers, answer = served.call("invocations", body, content_type="text/csv", accept="text/csv")
    assert (status, headers["content-type"], len(answer.splitlines())) == (200, "text/csv", 2)
    assert served.call("invocations", b"x", content_type="application/x-image")[0] == 415


def test_every_protocol_gives_the_same_numbers(served: Served):
    two = served.rows.head(2)
    expected = served.model.predict_proba(two)
    data = two.to_numpy().tolist()
    v1 = json.loads(served.call("v1/models/m:predict", {"instances": two.to_dict("records")})[2])["predictions"]
    typed = json.loads(served.call("predict", two.to_dict("records"))[2])["predictions"]
    one = json.loads(served.call("predict", two.to_dict("records")[0])[2])["prediction"]
    tensor = {"name": "input", "shape": [2, 4], "datatype": "FP64", "data": data}
    v2 = json.loads(served.call("v2/models/m/infer", {"inputs": [tensor]})[2])["outputs"][0]
    split = {"dataframe_split": {"columns": list(two), "data": data}}
    mlflow = json.loads(served.call("invocations", split)[2])["predictions"]
    for found in (v1, typed, mlflow, np.reshape(v2["data"], v2["shape"])):
        np.testing.assert_allclose(found, expected, rtol=1e-12)  # rows predicted together may sum in another order
    np.testing.assert_allclose(one, expected[0], rtol=1e-12)


def test_raw_tensors_in_and_out(served: Served):
    raw = served.rows.head(3).to_numpy().astype("<f8").tobytes()
    tensor = {"name": "x", "shape": [3, 4], "datatype": "FP64", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    status, headers, answer = served.call(
        "v2/models/m/infer",
        head + raw,
        inference_header_content_length=str(len(head)),
        content_type="application/octet-stream",
    )
    assert status == 200 and headers["content-type"] == "application/octet-stream"
    length = int(headers["inference-header-content-length"])
    output = json.loads(answer[:length])["outputs"][0]
    assert output["parameters"] == {"binary_data_size": 48} and "data" not in output
    found = np.frombuffer(answer[length:], "<f8").reshape(output["shape"])
    np.testing.assert_allclose(found, served.model.predict_proba(served.rows.head(3)), rtol=1e-12)


@pytest.mark.parametrize(
    ("size", "shape", "says"),
    [(95, [3, 4], "announced|whole number"), (96, [4, 4], "does not fill"), (8, [1, 1], "bytes follow")],
)
def test_raw_tensors_that_do_not_fit_are_400(served: Served, size: int, shape: list[int], says: str):
    tensor = {"name": "x", "shape": shape, "datatype": "FP64", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor]}).encode()
    status, _, answer = served.call(
        "v2/models/m/infer", head + b"\0" * 96, inference_header_content_length=str(len(head))
    )
    assert status == 400 and pytest.importorskip("re").search(says, json.loads(answer)["error"])


def test_typed_rows_that_do_not_fit_are_422_and_name_the_field(served: Served):
    status, _, answer = served.call("predict", [{"a": 1, "b": "two", "c": 3, "d": 4}])
    message = json.loads(answer)["message"]
    assert status == 422 and "'b'" in message and "a number" in message and "'two'" in message
    status, _, answer = served.call("predict", {"a": 1})
    assert status == 422 and "b, c, d" in json.loads(answer)["message"]


def test_the_openapi_document_describes_the_rows(served: Served):
    document = json.loads(served.call("openapi.json")[2])
    row = document["components"]["schemas"]["Row"]
    assert document["paths"]["/invocations"]["post"]["parameters"][0]["name"] == "Prefer"
    assert document["openapi"].startswith("3.1") and row["required"] == ["a", "b", "c", "d"]
    assert "/predict" in document["paths"] and "/v2/models/m/infer" in document["paths"]


@pytest.mark.parametrize("place", ["predict", "invocations", "v2/models/m/infer"])
def test_the_openapi_documents_examples_and_schemas_hold(served: Served, place: str):
    """The example is what its schema says, and answered as the document says; so is what is refused."""
    document = json.loads(served.call("openapi.json")[2])
    operation = document["paths"][f"/{place}"]["post"]

    def check(value: Any, content: dict[str, Any]) -> None:
        schema = content["application/json"]["schema"] | {"components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)

    example = operation["requestBody"]["content"]["application/json"]["example"]
    check(example, operation["requestBody"]["content"])
    for content in (example, {"nothing": 1}):
        status, _, answer = served.call(place, content)
        assert (status == 200) == (content is example)
        check(json.loads(answer), operation["responses"][str(status)]["content"])
    assert {"401", "413", "429", "503", "504"} <= set(operation["responses"])


def test_the_page_allows_its_own_script_and_nothing_else(served: Served):
    status, headers, page = served.call("docs")
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert "script-src 'sha256-" in headers["content-security-policy"] and b'<input name="a"' in page


def test_statistics_count_rows_and_calls(served: Served):
    before = json.loads(served.call("v2/models/m/stats")[2])["model_stats"][0]
    served.call("predict", served.rows.head(5).to_dict("records"))
    after = json.loads(served.call("v2/models/m/versions/1/stats")[2])["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 5
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]


def test_what_is_not_there_is_404_and_the_wrong_method_405(served: Served):
    assert served.call("nothing")[0] == 404
    assert served.call("v2/models/other/infer", {"inputs": []})[0] == 404
    assert served.call("invocations")[0] == 405
    assert served.call("ping", host="evil.example")[0] == 403


def test_a_folder_without_a_model_is_one_clear_error(tmp_path: Path):
    command = [sys.executable, "-m", "modelyard", "serve", str(tmp_path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "holds no MLmodel file" in done.stderr and "Traceback" not in done.stderr
