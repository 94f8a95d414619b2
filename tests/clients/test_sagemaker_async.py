"""boto3's asynchronous SageMaker runtime against a gateway and a real S3 server: inputs and answers are objects."""

import json
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.deliver.deployments import explaining
from tests.clients.sagemaker import sagemaker_runtime
from tests.conftest import wait_until
from tests.contract.s3server import S3Server, start_s3
from tests.unit.deliver.serving.conftest import TOKEN, Plane, odd_model, opened_plane

ROWS = json.dumps({"inputs": {"x": [1.5, 2]}}).encode()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    running = start_s3(tmp_path_factory.mktemp("s3"))
    yield running
    running.process.terminate()
    running.process.wait(20)


class House:
    """An endpoint `m` that answers twice `x`, whose requests may lie below `s3://BUCKET/in/`."""

    def __init__(self, plane: Plane, s3: S3Server, gate: Path) -> None:
        self.plane, self.s3, self.gate, self.bucket = plane, s3, gate, s3.new_bucket()
        self.policy = {"inputs": [f"s3://{self.bucket}/in/"], "outputs": f"s3://{self.bucket}/out/test/m/"}
        plane.worker("v3", plane.home / "m", 3)
        self.route()
        plane.gateway()
        self.start_porter()

    def route(self, **more: Any) -> None:
        endpoint = {"model": "m", "routes": [self.plane.target("v3", version=3)], "queue": {**self.policy, **more}}
        revision = self.plane.route_endpoints({"m": endpoint}, porter=self.plane.socket("porter"))
        if "gateway" in self.plane.processes:
            wait_until(lambda: self.plane.stats().get("revision") == revision, "the routing")

    def start_porter(self) -> None:
        options = ["--folder", str(self.plane.folder), "--socket", self.plane.socket("porter")]
        self.plane.launch("porter", "modelyard.deliver.deployments.porter", *options)
        wait_until(lambda: Path(self.plane.socket("porter")).exists(), "the porter")

    def kill(self, name: str) -> None:
        self.plane.processes[name].send_signal(signal.SIGKILL)
        self.plane.processes[name].wait()

    def client(self) -> Any:
        return sagemaker_runtime(f"http://127.0.0.1:{self.plane.port}", TOKEN)

    def put(self, name: str, body: bytes) -> str:
        self.s3.put(self.bucket, f"in/{name}", body)
        return f"s3://{self.bucket}/in/{name}"

    def object_at(self, location: str) -> dict[str, Any]:
        """The object, once it is there."""
        key = location.removeprefix(f"s3://{self.bucket}/")
        wait_until(lambda: key in self.s3.keys(self.bucket), location)
        return self.s3.get(self.bucket, key)

    def state(self, answer: dict[str, Any]) -> dict[str, Any]:
        where = answer["ResponseMetadata"]["HTTPHeaders"]["location"]
        return json.loads(self.plane.call("GET", where)[2])


@pytest.fixture
def house(tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    odd_model(tmp_path / "m", tmp_path / "gate")
    with opened_plane(tmp_path) as plane:
        yield House(plane, s3, tmp_path / "gate")


def test_an_object_is_answered_by_an_object(house: House) -> None:
    client = house.client()
    source = house.put("a b/ü%20.json", ROWS)
    answer = client.invoke_endpoint_async(
        EndpointName="m", InputLocation=source, InferenceId="call-1", ContentType="application/json",
        RequestTTLSeconds=600, InvocationTimeoutSeconds=60,
    )  # fmt: skip
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202 and answer["InferenceId"] == "call-1"
    assert answer["OutputLocation"].startswith(f"s3://{house.bucket}/out/test/m/")
    assert answer["FailureLocation"] == answer["OutputLocation"].replace(".out", "-error.out")
    found = house.object_at(answer["OutputLocation"])
    assert json.loads(found["Body"].read()) == {"predictions": [3.0, 4.0]}
    assert found["ContentType"] == "application/json"
    wait_until(lambda: house.state(answer)["state"] == "done", "its end")
    assert house.state(answer)["output"] == answer["OutputLocation"]
    with sqlite3.connect(house.plane.folder / "waiting.db") as db:
        (kept,) = db.execute("select headers from requests").fetchone()
    db.close()
    assert "call-1" in kept and TOKEN not in kept
    csv = client.invoke_endpoint_async(
        EndpointName="m", InputLocation=house.put("rows.csv", b"1.5\n4\n"), ContentType="text/csv", Accept="text/csv",
        S3OutputPathExtension="night/1", Filename="rows.csv",
    )  # fmt: skip
    assert csv["OutputLocation"] == f"s3://{house.bucket}/out/test/m/night/1/rows.csv" and csv["InferenceId"]
    found = house.object_at(csv["OutputLocation"])
    assert found["Body"].read().split() == [b"3.0", b"8.0"] and found["ContentType"] == "text/csv"
    inline = client.invoke_endpoint_async(EndpointName="m", Body=ROWS)
    assert json.loads(house.object_at(inline["OutputLocation"])["Body"].read()) == {"predictions": [3.0, 4.0]}


def test_what_fails_is_written_to_the_failure_location(house: House) -> None:
    house.route(max_input_bytes=100)
    client = house.client()
    wrong = {
        "raises.json": (b'{"inputs": {"x": [-1]}}', "error"),
        "column.json": (b'{"inputs": {"y": [1]}}', "Missing column"),
        "large.json": (b"x" * 101, "at most 100"),
    }
    given = {house.put(name, body): told for name, (body, told) in wrong.items()}
    given[f"s3://{house.bucket}/in/absent.json"] = "There is no s3://"
    for source, told in given.items():
        answer = client.invoke_endpoint_async(EndpointName="m", InputLocation=source)
        failure = json.loads(house.object_at(answer["FailureLocation"])["Body"].read())
        assert told in failure["message"] and "inside" not in failure["message"]
    assert not [key for key in house.s3.keys(house.bucket) if key.startswith("out/") and "-error" not in key]


def test_places_that_are_not_declared_are_refused(house: House) -> None:
    from botocore.exceptions import ClientError

    client = house.client()
    house.s3.put(house.bucket, "in-secret/a.json", ROWS)
    house.s3.put(house.bucket, "out/test/m/a.json", ROWS)
    refused = [
        {"InputLocation": f"s3://{house.bucket}/{key}"}
        for key in ("in-secret/a.json", "in/../in-secret/a.json", "in//a.json", "out/test/m/a.json", "in/")
    ]
    refused += [
        {"InputLocation": "s3://another/in/a.json"},
        {"InputLocation": "https://169.254.169.254/in/a.json"},
        {"InputLocation": f"s3://{house.bucket}/in/a.json", "S3OutputPathExtension": "../n"},
        {"InputLocation": f"s3://{house.bucket}/in/a.json", "Body": ROWS},
        {},
    ]
    for given in refused:
        with pytest.raises(ClientError) as error:
            client.invoke_endpoint_async(EndpointName="m", **given)
        assert error.value.response["Error"]["Code"] == "ValidationError", given
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert f"s3://{house.bucket}/in/" in _refusal(client, refused[0])
    house.policy["inputs"] = [f"s3://{house.bucket}/"]  # answers are no inputs, wherever inputs may lie
    house.route()
    assert "not below" in _refusal(client, refused[3])
    house.policy = {}
    house.route()
    assert "outputs" in _refusal(client, {"Body": ROWS})


def _refusal(client: Any, given: dict[str, Any]) -> str:
    from botocore.exceptions import ClientError

    with pytest.raises(ClientError) as error:
        client.invoke_endpoint_async(EndpointName="m", **given)
    return error.value.response["Error"]["Message"]


def test_nothing_is_lost_or_predicted_twice_while_the_store_is_away(house: House) -> None:
    """The porter dies while a prediction runs, then the gateway before the answer is written."""
    client = house.client()
    answer = client.invoke_endpoint_async(
        EndpointName="m", InputLocation=house.put("w.json", b'{"inputs": {"x": [-3]}}')
    )
    wait_until(lambda: Path(f"{house.gate}.waiting").exists(), "the prediction to run")
    house.kill("porter")
    house.gate.touch()
    wait_until(lambda: house.state(answer)["status"] == 200, "the prediction")
    predicted = house.plane.counted("v3")["requests"]
    told = wait_until(lambda: explaining.of_data("m", house.plane.stats()), "what keeps it")
    assert isinstance(told, list) and told[0].startswith(
        "asynchronous requests wait: Object stores cannot be reached"
    )
    house.kill("gateway")
    house.plane.gateway("again", house.plane.port)
    house.start_porter()
    assert json.loads(house.object_at(answer["OutputLocation"])["Body"].read()) == {"predictions": [-6.0]}
    assert predicted == 1 and house.plane.counted("v3")["requests"] == 0
    assert house.state(answer)["attempts"] == 1
    wait_until(lambda: explaining.of_data("m", house.plane.stats()) == [], "nothing to be told")


def test_a_request_that_waited_for_too_long_is_a_failure(house: House) -> None:
    house.kill("v3")
    client = house.client()
    answer = client.invoke_endpoint_async(
        EndpointName="m", InputLocation=house.put("late.json", ROWS), RequestTTLSeconds=60
    )
    house.kill("gateway")
    with sqlite3.connect(house.plane.folder / "waiting.db") as db:
        db.execute("update requests set queued_at = queued_at - 61000")  # a minute later
    db.close()
    house.plane.gateway("again", house.plane.port)
    failure = json.loads(house.object_at(answer["FailureLocation"])["Body"].read())
    assert "60 s" in failure["message"]
