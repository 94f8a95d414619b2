"""The Open Inference Protocol over gRPC: a third party's client, and messages without raw tensors."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from modelyard.deliver.serving import grpc_infer, grpc_messages
from tests.conftest import wait_until
from tests.ports import free_port
from tests.unit.deliver.serving.conftest import TOKEN, Plane, numeric_model, opened_plane
from tests.unit.deliver.serving.test_capture import records

METADATA = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plane, int, Any, Any]]:
    """(data plane, gRPC port, estimator, rows) of a gateway with endpoint `m`, a logistic regression."""
    home = tmp_path_factory.mktemp("grpc")
    with opened_plane(home) as plane:
        model, rows = numeric_model(home / "model")
        plane.worker("v1", home / "model", version=3)
        plane.route(plane.target("v1", version=3), log=home / "log")
        port = free_port()
        plane.gateway(options=("--grpc-port", str(port)))
        yield plane, port, model, rows


@pytest.fixture
def client(served: tuple[Plane, int, Any, Any]) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"127.0.0.1:{served[1]}") as client:
        yield client


def asked(rows: Any) -> list[InferInput]:
    given = InferInput("x", list(rows.shape), "FP64")
    given.set_data_from_numpy(rows)
    return [given]


def test_a_client_finds_what_is_served(client: InferenceServerClient):
    assert client.is_server_live(headers=METADATA) and client.is_server_ready(headers=METADATA)
    assert client.is_model_ready("m", headers=METADATA) and client.is_model_ready("m", "3", headers=METADATA)
    assert client.get_server_metadata(headers=METADATA).name == "modelyard"
    found = client.get_model_metadata("m", headers=METADATA)
    assert list(found.versions) == ["3"] and [column.name for column in found.inputs] == ["a", "b", "c", "d"]
    assert {column.datatype for column in found.inputs} == {"FP64"}


def test_predictions_are_the_models_own_and_are_logged(
    served: tuple[Plane, int, Any, Any], client: InferenceServerClient
):
    plane, _, model, rows = served
    given = rows.to_numpy()[:5]
    before = plane.counted("v1")["requests"]
    answer = client.infer("m", asked(given), request_id="order-1", headers=METADATA)
    found = answer.as_numpy("predict")
    assert found is not None and np.allclose(found, model.predict_proba(rows[:5]), rtol=1e-13)
    assert answer.get_response().id == "order-1" and answer.get_response().model_version == "3"
    assert plane.counted("v1")["requests"] == before + 1
    wait_until(lambda: [one for one in records(plane.home / "log") if one.path.endswith("/infer")], "the log")


def test_only_known_tokens_are_answered(client: InferenceServerClient, served: tuple[Plane, int, Any, Any]):
    rows = served[3].to_numpy()[:1]
    for headers, code in ((None, "UNAUTHENTICATED"), ({"authorization": "Bearer wrong"}, "UNAUTHENTICATED")):
        with pytest.raises(InferenceServerException) as refused:
            client.infer("m", asked(rows), headers=headers)
        assert code in str(refused.value.status())


def test_what_is_refused_is_counted_by_endpoint_as_over_http(
    client: InferenceServerClient, served: tuple[Plane, int, Any, Any]
):
    plane, _, _, rows = served

    def told(status: int) -> int:
        text = plane.call("GET", "/metrics")[2].decode()
        found = re.search(rf'modelyard_refused_total{{endpoint="m",status="{status}"}} (\d+)', text)
        return int(found[1]) if found else 0

    before = told(401), told(400)
    with pytest.raises(InferenceServerException):
        client.infer("m", asked(rows.to_numpy()[:1]), headers={"authorization": "Bearer wrong"})
    with pytest.raises(InferenceServerException, match="has no contents"):
        client.infer("m", [InferInput("x", [1], "FP16")], headers=METADATA)
    assert (told(401), told(400)) == (before[0] + 1, before[1] + 1)


def test_mistakes_are_named(client: InferenceServerClient):
    with pytest.raises(InferenceServerException, match=r"expected \[rows, 4\]") as refused:
        client.infer("m", asked(np.zeros((2, 3))), headers=METADATA)
    assert "INVALID_ARGUMENT" in str(refused.value.status())
    with pytest.raises(InferenceServerException, match="no endpoint") as refused:
        client.infer("nothing", asked(np.zeros((1, 4))), headers=METADATA)
    assert "NOT_FOUND" in str(refused.value.status())
    with pytest.raises(InferenceServerException, match="serves no version"):
        client.infer("m", asked(np.zeros((1, 4))), "9", headers=METADATA)
    chosen = [InferRequestedOutput("predict"), InferRequestedOutput("label")]
    with pytest.raises(InferenceServerException, match="no output 'label'; its outputs: predict") as refused:
        client.infer("m", asked(np.zeros((1, 4))), outputs=chosen, headers=METADATA)
    assert "INVALID_ARGUMENT" in str(refused.value.status())
    assert (
        client.infer("m", asked(np.zeros((1, 4))), outputs=chosen[:1], headers=METADATA).as_numpy("predict")
        is not None
    )


def test_messages_without_raw_tensors_are_answered_likewise(served: tuple[Plane, int, Any, Any]):
    _, port, model, rows = served
    messages = grpc_messages.classes()
    row = rows.to_numpy()[:2]
    tensor = {"name": "x", "datatype": "FP64", "shape": [2, 4], "contents": {"fp64_contents": row.ravel().tolist()}}
    request = messages["ModelInferRequest"](model_name="m", inputs=[tensor])
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            f"/{grpc_messages.SERVICE}/ModelInfer",
            messages["ModelInferRequest"].SerializeToString,
            messages["ModelInferResponse"].FromString,
        )
        answer, told = call.with_call(request, metadata=tuple(METADATA.items()), timeout=20)
        found = list(answer.outputs[0].contents.fp64_contents)
        assert np.allclose(found, model.predict_proba(rows[:2]).ravel(), rtol=1e-13)
        headers = {key: value for key, value in told.initial_metadata()}
        assert headers["x-modelyard-version"] == "3" and len(headers["x-prediction-id"]) == 32
        request.raw_input_contents.append(row.tobytes())
        with pytest.raises(grpc.RpcError) as refused:
            call(request, metadata=tuple(METADATA.items()), timeout=20)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "beside raw_input_contents" in str(refused.value.details())


def test_a_model_that_raises_tells_nothing_of_its_inside(plane: Plane, odd: Path):
    plane.worker("v1", odd)
    plane.route(plane.target("v1"))
    port = free_port()
    plane.gateway(options=("--grpc-port", str(port)))
    with InferenceServerClient(f"127.0.0.1:{port}") as client:
        given = InferInput("x", [1], "FP64")
        given.set_data_from_numpy(np.array([-1.0]))
        with pytest.raises(InferenceServerException) as refused:
            client.infer("m", [given], outputs=[InferRequestedOutput("predict")], headers=METADATA)
        assert "INTERNAL" in str(refused.value.status()) and "inside of the model" not in str(refused.value)


def test_numbers_that_are_none_are_contents_too():
    answered = {"model_name": "m", "outputs": [{"name": "p", "datatype": "FP64", "shape": [2], "data": [None, 1.5]}]}
    answer = grpc_infer.response(msgspec.json.encode(answered), None, grpc_messages.classes()["ModelInferResponse"]())
    found = list(answer.outputs[0].contents.fp64_contents)
    assert math.isnan(found[0]) and found[1] == 1.5
