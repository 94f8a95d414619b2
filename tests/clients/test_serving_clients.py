"""Third-party clients against a gateway: NVIDIA's Open Inference client, boto3's SageMaker runtime, requests."""

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.unit.deliver.serving.conftest import TOKEN, Plane, numeric_model, opened_plane

BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plane, Any, Any]]:
    home = tmp_path_factory.mktemp("clients")
    model, rows = numeric_model(home / "m")
    with opened_plane(home) as plane:
        plane.worker("v3", home / "m", 3)
        plane.route(plane.target("v3", version=3))
        plane.gateway()
        yield plane, model, rows


@pytest.mark.parametrize("base", ["", "/endpoints/m"])
@pytest.mark.parametrize("binary", [True, False])
def test_tritons_http_client(served: tuple[Plane, Any, Any], base: str, binary: bool):
    import tritonclient.http as triton

    plane, model, rows = served
    client = triton.InferenceServerClient(f"127.0.0.1:{plane.port}{base}")
    assert client.is_server_live(headers=BEARER) and client.is_server_ready(headers=BEARER)
    assert client.is_model_ready("m", headers=BEARER) and client.is_model_ready("m", "3", headers=BEARER)
    assert "binary_tensor_data" in client.get_server_metadata(headers=BEARER)["extensions"]
    described = client.get_model_metadata("m", headers=BEARER)
    assert [item["name"] for item in described["inputs"]] == list(rows) and described["versions"] == ["3"]
    data = rows.head(5).to_numpy()
    given = triton.InferInput("input", list(data.shape), "FP64")
    given.set_data_from_numpy(data, binary_data=binary)
    asked = triton.InferRequestedOutput("predict", binary_data=binary)
    answer = client.infer("m", [given], outputs=[asked], request_id="mine", headers=BEARER)
    np.testing.assert_allclose(answer.as_numpy("predict"), model.predict_proba(rows.head(5)), rtol=1e-12)
    assert answer.get_response()["id"] == "mine" and answer.get_response()["model_version"] == "3"
    assert client.get_inference_statistics("m", headers=BEARER)["model_stats"][0]["inference_count"] >= 5
    with pytest.raises(triton.InferenceServerException, match=r"serves no version"):
        client.infer("m", [given], model_version="9", headers=BEARER)
    client.close()


def test_boto3s_sagemaker_runtime(served: tuple[Plane, Any, Any], monkeypatch: pytest.MonkeyPatch):
    """Two settings: where the endpoint is, and the token as botocore's bearer token."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    plane, model, rows = served
    monkeypatch.setenv("AWS_BEARER_TOKEN_SAGEMAKER", TOKEN)
    client = boto3.client(
        "sagemaker-runtime",
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{plane.port}",
        config=Config(signature_version="bearer", retries={"total_max_attempts": 1}),
    )
    body = rows.head(2).to_csv(index=False, header=False)
    answer = client.invoke_endpoint(EndpointName="m", ContentType="text/csv", Body=body, InferenceId="call-1")
    found = json.loads(answer["Body"].read())["predictions"]
    np.testing.assert_allclose(found, model.predict_proba(rows.head(2)), rtol=1e-12)
    assert answer["InvokedProductionVariant"] == "v3"
    with pytest.raises(ClientError) as error:
        client.invoke_endpoint(EndpointName="m", ContentType="text/csv", Body="a,b\n1,2\n")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_requests_with_what_mlflow_writes_as_the_example(served: tuple[Plane, Any, Any]):
    import requests

    plane, _, _ = served
    example = (plane.home / "m" / "serving_input_example.json").read_text()
    answer = requests.post(
        f"http://127.0.0.1:{plane.port}/endpoints/m/invocations",
        data=example,
        headers={**BEARER, "content-type": "application/json"},
        timeout=30,
    )
    assert answer.status_code == 200 and len(answer.json()["predictions"]) == 3


def test_pandas_reads_what_it_wrote(served: tuple[Plane, Any, Any]):
    import pandas as pd
    import requests

    plane, model, rows = served
    split = json.loads(rows.head(4).to_json(orient="split"))
    url = f"http://127.0.0.1:{plane.port}/endpoints/m/invocations"
    answer = requests.post(url, json={"dataframe_split": split}, headers=BEARER, timeout=30)
    found = pd.read_json(io.StringIO(json.dumps(answer.json()["predictions"])))
    np.testing.assert_allclose(found.to_numpy(), model.predict_proba(rows.head(4)), rtol=1e-9)
