"""The same raw rows through the pipeline's model and through the endpoint: the same numbers, to the last bit."""

import io
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from modelyard import steps
from modelyard.build.pipelines import model_format
from tests.unit.deliver.serving.conftest import Plane

PROJECT = '''
"""Features of a project of its own."""

import numpy as np


def engineered(frame):
    """Speed, and the hour as a place on a circle."""
    angle = frame["hour"] * (2 * np.pi / 24)
    return frame.assign(speed=frame["distance"] / frame["minutes"], sin=np.sin(angle), cos=np.cos(angle))
'''
NUMBERS = ["distance", "minutes"]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Any]:
    """A project's module with a feature step."""
    (tmp_path / "flight_features.py").write_text(PROJECT)
    sys.path.insert(0, str(tmp_path))
    import flight_features  # type: ignore[import-not-found]  # written above

    yield flight_features
    sys.path.remove(str(tmp_path))
    del sys.modules["flight_features"]


def raw(count: int = 400, holes: bool = False) -> pd.DataFrame:
    random = np.random.default_rng(5)
    rows = pd.DataFrame(
        {
            "distance": random.lognormal(6, 1, count),
            "minutes": random.lognormal(4, 0.5, count),
            "hour": random.integers(0, 24, count),
            "carrier": random.choice(["UA", "B6", 'é, "x"'], count),
        }
    )
    if holes:
        rows.loc[random.random(count) < 0.2, "distance"] = np.nan
    rows["late"] = (rows["hour"] + random.normal(size=count) * 5 + (rows["carrier"] == "UA") * 4 > 14).astype(int)
    return rows


def in_v2(rows: pd.DataFrame) -> tuple[bytes, dict[str, str]]:
    """A v2 request with raw tensors, one for each column: (body, headers)."""
    tensors: list[dict[str, Any]] = []
    data = b""
    for name in rows:
        if rows[name].dtype.kind in "fi":
            kind, dtype = ("FP64", "<f8") if rows[name].dtype.kind == "f" else ("INT64", "<i8")
            part = rows[name].to_numpy().astype(dtype).tobytes()
        else:
            kind, texts = "BYTES", [text.encode() for text in rows[name]]
            part = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        size = {"binary_data_size": len(part)}
        tensors.append({"name": name, "shape": [len(rows)], "datatype": kind, "parameters": size})
        data += part
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    headers = {"content_type": "application/octet-stream", "inference_header_content_length": str(len(head))}
    return head + data, headers


def answers(plane: Plane, rows: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    """(form, answer) of the same rows asked in every form that keeps numbers exactly."""
    holes = rows.astype(object).where(rows.notna(), None)
    split = {"dataframe_split": {"columns": list(rows), "data": holes.to_numpy().tolist()}}
    records = {"dataframe_records": holes.to_dict("records")}
    parquet, text = io.BytesIO(), rows.to_csv(index=False)
    rows.to_parquet(parquet, index=False)
    for form, body, media in (
        ("split", json.dumps(split).encode(), "application/json"),
        ("records", json.dumps(records).encode(), "application/json"),
        ("csv", text.encode(), "text/csv"),
        ("parquet", parquet.getvalue(), "application/vnd.apache.parquet"),
    ):
        status, _, answer = plane.call("POST", "/endpoints/m/invocations", body, content_type=media)
        assert status == 200, (form, answer)
        yield form, np.array(json.loads(answer)["predictions"])
    body, headers = in_v2(rows)
    status, told, answer = plane.call("POST", "/endpoints/m/v2/models/m/infer", body, **headers)
    assert status == 200, answer
    length = int(told["inference-header-content-length"])
    output = json.loads(answer[:length])["outputs"][0]
    yield "v2 binary", np.frombuffer(answer[length:], "<f8").reshape(output["shape"])


def learnt(features: str, rows: pd.DataFrame, project: Any) -> Any:
    """A model with the project's own feature step, or with a named feature set."""
    if features != "own":
        estimator = "boosting" if features == "plain" else "linear"
        return steps.train(rows, target="late", estimator=estimator, features=features)
    prepared = make_column_transformer(
        (StandardScaler(), [*NUMBERS, "speed", "sin", "cos"]), (OneHotEncoder(), ["carrier"])
    )
    transformer = make_pipeline(FunctionTransformer(project.engineered), prepared)
    return steps.train(rows, target="late", estimator=LogisticRegression(), features=transformer)


def test_pipeline_and_endpoint_give_the_same_bits(plane: Plane, tmp_path: Path, project: Any):
    """Features of the project itself, and the two named sets; those with missing numbers."""
    sent = {name: raw(holes=name != "own") for name in ("own", "plain", "scaled")}
    models = {name: learnt(name, rows, project) for name, rows in sent.items()}
    for name, model in models.items():
        model_format.save(model, tmp_path / name, sent[name].drop(columns="late").head(3))
        plane.launch_worker(name, plane.spec(name, tmp_path / name))
    plane.route(plane.target("own"))
    plane.gateway()
    for name, model in models.items():
        plane.ready(name)
        plane.reroute(plane.target(name))
        for count in (1, 7, 400):
            asked = sent[name].drop(columns="late").tail(count).reset_index(drop=True)
            expected = model.predict_proba(asked)
            for form, found in answers(plane, asked):
                assert found.tobytes() == expected.tobytes(), (name, form, count, np.abs(found - expected).max())
