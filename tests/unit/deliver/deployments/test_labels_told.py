"""What is odd about labels: ids that no prediction has, and classes that nobody ever said."""

import json
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from modelyard.deliver.deployments.labels_told import told
from modelyard.deliver.serving import ground_truth
from modelyard.deliver.serving.ground_truth import Label
from modelyard.deliver.serving.prediction_log import FRAME, Record


def logged(folder: Path, answers: list[Any], classes: list[str]) -> Path:
    """A log of one request, `r` by the caller `mine`; the file that describes its model."""
    inputs = json.dumps([{"name": "x", "type": "double"}])
    model = folder / "MLmodel"
    model.write_text(yaml.safe_dump({"signature": {"inputs": inputs}, "metadata": {"classes": classes}}))
    asked, answered = {"inputs": {"x": [1.0] * len(answers)}}, {"predictions": answers}
    bodies = msgspec.json.encode(asked), msgspec.json.encode(answered)
    record = Record("r", "mine", 1_700_000_000_000, "d", 1, 200, 1, "invocations", "application/json", *bodies)
    data = msgspec.msgpack.encode([record])
    (folder / "1700000000000-a.segment").write_bytes(FRAME.pack(len(data), zlib.crc32(data)) + data)
    return model


def test_ids_that_no_prediction_has_are_counted_and_named(tmp_path: Path) -> None:
    model = logged(tmp_path, [0.5, 0.25], [])
    before = [Label("long ago", 1.0, 1, came=10)]
    now = [Label(name, 1.0, 1, came=20) for name in ("r:0", "mine:1", "r:7", "nope", "mine")]
    ground_truth.append(tmp_path, [*before, *now])
    assert told(tmp_path, model, 20, "binary") == {"labels": 5, "unmatched": 2, "ids": ["r:7", "nope"], "strange": []}


@pytest.mark.parametrize(
    ("task", "answers", "classes", "earlier", "labels", "strange"),
    [
        ("multiclass", ["setosa"], [], [], ["setosa", "Setosa"], ["Setosa"]),  # what the model says
        ("multiclass", [0.5], ["a", "b", "c"], [], ["a", "d", 3.0], ["3", "d"]),
        ("multiclass", [0.5], [], ["a"], ["a", "d"], ["d"]),  # what labels said before
        ("multiclass", [0.5], [], [], ["a", "d"], []),  # nothing to compare with
        ("binary", [0.5], [], [], [1.0, 0.0, "yes"], ["yes"]),
        ("binary", [0.5], ["no", "yes"], [], [1.0, "yes", "maybe"], ["maybe"]),
        ("", ["late"], [], [], [1.5, "later"], ["later"]),
        ("regression", [0.5], [], [1.0], [7.0], []),
    ],
)
def test_labels_that_nobody_ever_said(
    tmp_path: Path, task: str, answers: list[Any], classes: list[str], earlier: list[Any], labels: list[Any],
    strange: list[str],
) -> None:  # fmt: skip
    model = logged(tmp_path, answers, classes)
    before = [Label(f"before-{place}", label, 1, came=10) for place, label in enumerate(earlier)]
    ground_truth.append(tmp_path, [*before, *(Label(f"r:{n}", label, 1, came=20) for n, label in enumerate(labels))])
    assert told(tmp_path, model, 20, task)["strange"] == strange
