"""Reads predictions and rewards by deployment out of the prediction log, in a process of its own.

python -m modelyard.deliver.deployments.predictions_read SINCE_MS FOLDER MLMODEL REWARD
"""

import json
import sys
from itertools import chain
from pathlib import Path
from typing import Any

from modelyard.deliver.serving import ground_truth, log_reader
from modelyard.deliver.serving.capture import SHADOW
from modelyard.kit.classes import class_text

MOST = 20_000
"""Newest predictions of a deployment that are compared."""


def by_deployment(folder: Path, model_file: Path, since_ms: int, reward: str | None) -> dict[str, dict[str, Any]]:
    """{deployment: {"predictions", "rewards"}}; a reward for each prediction whose truth is known.

    What shadows answered counts like any other answer: it has the ids of the primary's. Requests that named their
    deployment are left out: they are no sample of the traffic.
    """
    signature = log_reader.signature_of(model_file)
    labels = ground_truth.newest(folder) if reward else {}
    logs = (log_reader.read(place, signature, since_ms) for place in (folder, folder / SHADOW))
    tables = [ground_truth.join(log, labels) for log in logs]
    found: dict[str, dict[str, Any]] = {}
    names = ("deployment", "prediction", "named", "label")
    rows = (zip(*(table.column(name).to_pylist() for name in names), strict=True) for table in tables)
    for deployment, prediction, named, label in chain.from_iterable(rows):
        if named:
            continue
        held = found.setdefault(deployment, {"predictions": [], "rewards": []})
        if prediction is not None:
            held["predictions"].append(prediction)
            if reward and label is not None:
                held["rewards"].append(_reward(reward, prediction, label))
    newest = {name: {key: values[-MOST:] for key, values in held.items()} for name, held in found.items()}
    _number_classes(newest)
    return newest


def _number_classes(found: dict[str, dict[str, Any]]) -> None:
    """Predictions that are names become the numbers of their classes, the same in every deployment."""
    said = [value for held in found.values() for value in held["predictions"]]
    if any(isinstance(value, str) for value in said):
        codes = {name: float(code) for code, name in enumerate(sorted(set(map(class_text, said))))}
        for held in found.values():
            held["predictions"] = [codes[class_text(value)] for value in held["predictions"]]


def _reward(kind: str, prediction: float | str, label: float | str) -> float:
    if isinstance(prediction, str) or isinstance(label, str):
        return float(class_text(prediction) == class_text(label))  # of names only their being right is a number
    if kind == "label":
        return label
    if kind == "negative-error":
        return -abs(prediction - label)
    return float(
        prediction == label or (0 <= prediction <= 1 and label in (0, 1) and (prediction > 0.5) == (label == 1))
    )


def main() -> int:
    since_ms, folder, model_file, reward = sys.argv[1:5]
    found = by_deployment(Path(folder), Path(model_file), int(since_ms), None if reward == "-" else reward)
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
