"""Third-party clients against a gateway: NVIDIA's Open Inference client, boto3's SageMaker runtime, requests."""

import json
from collections.abc import Iterator

import numpy as np
import pytest

from tests.clients.sagemaker import sagemaker_runtime
from tests.unit.deliver.serving.conftest import TOKEN, Plane, odd_model, opened_plane


def bearer() -> dict[str, str]:
    """Of its own for each call: Triton's client writes into the headers that it is given."""
    return {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A model that answers twice `x`, as version 3."""
    home = tmp_path_factory.mktemp("clients")
    odd_model(home / "m", home / "gate")
    with opened_plane(home) as plane:
        plane.worker("v3", home / "m", 3)
        plane.route(plane.target("v3", version=3))
        plane.gateway()
        yield plane


@pytest.mark.parametrize("base", ["", "/endpoints/m"])
@pytest.mark.parametrize("binary", [True, False])
def test_tritons_http_client(plane: Plane, base: str, binary: bool):
    import tritonclient.http as triton

    client = triton.InferenceServerClient(f"127.0.0.1:{plane.port}{base}")
    assert client.is_server_live(headers=bearer()) and client.is_server_ready(headers=bearer())
    assert client.is_model_ready("m", headers=bearer()) and client.is_model_ready("m", "3", headers=bearer())
    assert "binary_tensor_data" in client.get_server_metadata(headers=bearer())["extensions"]
    described = client.get_model_metadata("m", headers=bearer())
    assert [item["name"] for item in described["inputs"]] == ["x"] and described["versions"] == ["3"]
    data = np.array([[0.5], [1.5], [2.0], [3.0], [4.0]])
    given = triton.InferInput("input", list(data.shape), "FP64")
    given.set_data_from_numpy(data, binary_data=binary)
    asked = triton.InferRequestedOutput("predict", binary_data=binary)
    answer = client.infer("m", [given], outputs=[asked], request_id="mine", headers=bearer())
    np.testing.assert_allclose(answer.as_numpy("predict"), 2 * data[:, 0])
    assert answer.get_response()["id"] == "mine" and answer.get_response()["model_version"] == "3"
    for asked_of in ({}, {"model_name": "m"}, {"model_name": "m", "model_version": "3"}):
        (told,) = client.get_inference_statistics(**asked_of, headers=bearer())["model_stats"]
        assert (told["name"], told["version"]) == ("m", "3") and told["inference_count"] >= 5
        assert sum(batch["compute_infer"]["count"] for batch in told["batch_stats"]) == told["execution_count"]
    with pytest.raises(triton.InferenceServerException, match=r"no output 'label'; its outputs: predict"):
        client.infer(
            "m", [given], outputs=[triton.InferRequestedOutput("label", binary_data=binary)], headers=bearer()
        )
    with pytest.raises(triton.InferenceServerException, match=r"serves no version"):
        client.infer("m", [given], model_version="9", headers=bearer())
    client.close()


def test_boto3s_sagemaker_runtime(plane: Plane):
    """Where the endpoint is, and the token as a session's."""
    from botocore.exceptions import ClientError

    client = sagemaker_runtime(f"http://127.0.0.1:{plane.port}", TOKEN)
    answer = client.invoke_endpoint(EndpointName="m", ContentType="text/csv", Body="1.5\n2\n", InferenceId="call-1")
    found = json.loads(answer["Body"].read())["predictions"]
    assert found == [3.0, 4.0]
    assert answer["InvokedProductionVariant"] == "v3"
    with pytest.raises(ClientError) as error:
        client.invoke_endpoint(EndpointName="m", ContentType="text/csv", Body="a,b\n1,2\n")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    with pytest.raises(ClientError) as error:
        sagemaker_runtime(f"http://127.0.0.1:{plane.port}", "another").invoke_endpoint(EndpointName="m", Body="1")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 401
    with pytest.raises(ClientError, match="aws_session_token") as error:
        sagemaker_runtime(f"http://127.0.0.1:{plane.port}", "").invoke_endpoint(EndpointName="m", Body="1")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 401


def test_boto3_by_its_environment_alone(plane: Plane, monkeypatch: pytest.MonkeyPatch):
    """Code that was written for SageMaker stays as it is."""
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", f"http://127.0.0.1:{plane.port}")
    answer = boto3.client("sagemaker-runtime").invoke_endpoint(EndpointName="m", ContentType="text/csv", Body="1.5\n")
    assert json.loads(answer["Body"].read()) == {"predictions": [3.0]}


def test_mlflows_deployments_client(plane: Plane, monkeypatch: pytest.MonkeyPatch):
    """`predict` as MLflow's users write it; the token is MLflow's own setting."""
    from mlflow.deployments import get_deploy_client
    from requests import HTTPError

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    client = get_deploy_client(f"http://127.0.0.1:{plane.port}")
    assert client is not None
    assert client.predict(endpoint="m", inputs={"inputs": {"x": [1.5, 2]}}) == {"predictions": [3.0, 4.0]}
    (listed,) = client.list_endpoints()
    assert (listed.name, listed.model.provider) == ("m", "modelyard")
    assert client.get_endpoint("m").endpoint_url == f"http://127.0.0.1:{plane.port}/endpoints/m/invocations"
    with pytest.raises(HTTPError, match="Missing column"):
        client.predict(endpoint="m", inputs={"dataframe_split": {"columns": ["y"], "data": [[1]]}})


def test_requests_with_what_pandas_writes(plane: Plane):
    import pandas as pd
    import requests

    rows = pd.DataFrame({"x": [0.25, -5.0], "more": ["a", "b"]})
    url = f"http://127.0.0.1:{plane.port}/endpoints/m/invocations"
    split = json.loads(rows.to_json(orient="split"))
    for content in ({"dataframe_split": split}, {"dataframe_records": rows.to_dict("records")}):
        answer = requests.post(url, json=content, headers=bearer(), timeout=30)
        assert answer.status_code == 200 and answer.json() == {"predictions": [0.5, -10.0]}
