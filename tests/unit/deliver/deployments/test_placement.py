"""What a placement becomes in the data plane's files."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelyard.deliver.deployments import placement, places
from modelyard.deliver.deployments.placement import Placed, PlacedEndpoint, Placement, Route
from modelyard.domain.serving import Logged, Serving


def routed(home: Path, log: Logged) -> dict[str, Any]:
    held = PlacedEndpoint("m", [Route("d1", "live", 1.0)], serving=Serving(log=log))
    wanted = Placement("production", {"m": held}, {"d1": Placed("d1", "m", 1, "0" * 64, [])}, {}, {})
    placement.write(home, wanted, lambda _: True)
    (route,) = json.loads((places.serving(home, "production") / "routing.json").read_text())["endpoints"]["m"][
        "routes"
    ]
    return route


@pytest.mark.parametrize("redact", [(), ("name",)])
def test_a_gateway_that_leaves_columns_out_of_its_log_knows_the_models(
    tmp_path: Path, redact: tuple[str, ...]
) -> None:
    log = Logged(redact=redact)
    assert routed(tmp_path, log).get("columns") == ([] if redact else None)  # its files are still on their way
    folder = places.models(tmp_path, "production") / ("0" * 64)
    folder.mkdir(parents=True)
    inputs = [{"name": "age", "type": "long"}, {"name": "name", "type": "string"}]
    (folder / "MLmodel").write_text(yaml.safe_dump({"signature": {"inputs": json.dumps(inputs)}}))
    assert routed(tmp_path, log).get("columns") == (["age", "name"] if redact else None)
