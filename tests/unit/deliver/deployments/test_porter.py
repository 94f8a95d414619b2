"""A yard whose endpoint takes objects of a store: who holds which credentials, and what is declared where."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.domain.errors import ConfigError
from modelyard.domain.project import parse_project
from tests.clients.sagemaker import sagemaker_runtime
from tests.contract.s3server import start_s3
from tests.unit.deliver.deployments.edge import Edge
from tests.unit.deliver.deployments.house import FAST, House

QUEUE = """
[models.m]
task = "regression"

[models.m.serving.queue]
"""


@pytest.mark.slow
def test_only_the_porter_holds_the_stores_credentials(
    yard: Callable[..., House], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = start_s3(tmp_path)
    try:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        bucket = s3.new_bucket()
        s3.put(bucket, "requests/one.json", b'{"inputs": {"x": [4]}}')
        house = yard(f'{FAST}{QUEUE}inputs = ["s3://{bucket}/requests"]\n')
        house.first()
        url = house.note("gateway-production")["url"]

        def answered(at: str) -> None:
            client = sagemaker_runtime(at, house.tokens["otto"])
            given = client.invoke_endpoint_async(EndpointName="m", InputLocation=f"s3://{bucket}/requests/one.json")
            where = given["OutputLocation"]
            assert where.startswith(f"s3://{bucket}/answers/production/m/")
            key = where.removeprefix(f"s3://{bucket}/")
            house.wait(lambda: key in s3.keys(bucket), where)
            assert json.loads(s3.get(bucket, key)["Body"].read()) == {"predictions": [4.0]}

        answered(url)
        porter = house.pid_of("modelyard.deliver.deployments.porter")
        gateway = house.pid_of("modelyard.deliver.serving.gateway", "production")
        assert porter is not None and gateway is not None
        held = {pid: Path(f"/proc/{pid}/environ").read_bytes() for pid in (porter, gateway)}
        assert b"AWS_SECRET_ACCESS_KEY" in held[porter] and b"AWS_" not in held[gateway]
        assert b"MODELYARD_" not in held[porter]
        os.kill(porter, signal.SIGKILL)
        answered(url)
        edge = Edge(house, tmp_path)
        try:
            house.wait(lambda: edge.serves(1), "the far machine")
            answered(edge.url)
        finally:
            edge.stop()
    finally:
        s3.process.terminate()
        s3.process.wait(20)


@pytest.mark.parametrize(
    "given",
    ['inputs = ["lake/in"]', 'outputs = "s3://"', 'outputs = "s3://lake/../b"', 'inputs = ["https://lake/x"]'],
)
def test_places_are_folders_of_buckets(given: str) -> None:
    with pytest.raises(ConfigError, match=r"models\.m\.serving\.queue\.(inputs|outputs) has"):
        parse_project(f'[project]\nname = "t"\n{QUEUE}{given}\n', "modelyard.toml")


def test_answers_have_a_place_by_default() -> None:
    def answers(given: str) -> str:
        project = parse_project(f'[project]\nname = "t"\n{QUEUE}{given}\n', "modelyard.toml")
        return project.models["m"].serving.queue.answers

    assert answers('inputs = ["s3://lake/in/", "s3://pond"]') == "s3://lake/answers/"
    assert answers('inputs = ["s3://lake/in"]\noutputs = "s3://pond"') == "s3://pond/"
    assert answers("concurrency = 2") == ""
