"""What is odd about labels that came lately, as JSON: found in the prediction log, in a process of its own.

python -m modelyard.deliver.deployments.labels_told FOLDER MLMODEL SINCE_MS TASK
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.serving import ground_truth, log_reader
from modelyard.deliver.serving.ground_truth import NUMERIC_TASKS, Truth
from modelyard.deliver.serving.signature import Signature
from modelyard.kit.classes import class_text

SHOWN = 5
"""Of each that are named."""
CLASSES = ("binary", "multiclass")


def told(folder: Path, model_file: Path, since_ms: int, task: str) -> dict[str, Any]:
    """{"labels", "unmatched", "ids", "strange"}: of those that came since a moment how many there are, how many name
    no prediction, the first of these, and the labels that neither the model nor earlier labels ever said.
    """
    signature = log_reader.signature_of(model_file)
    held = ground_truth.newest(folder)
    came = {name: label for name, label in held.items() if label.came >= since_ms}
    said = {class_text(label.label) for name, label in held.items() if name not in came}
    unmatched = dict.fromkeys(came)
    for _, _, table in log_reader.segments(folder, signature):
        names = (table.column(name).to_pylist() for name in ("prediction_id", "caller_id"))
        for identity, caller in zip(*names, strict=True):
            for name in ground_truth.names_of(identity, caller):
                unmatched.pop(name, None)
        said |= {value for value in table.column("prediction").unique().to_pylist() if isinstance(value, str)}
    strange = _strange([label.label for label in came.values()], said, signature, task)
    shown = {"ids": list(unmatched)[:SHOWN], "strange": strange[:SHOWN]}
    return {"labels": len(came), "unmatched": len(unmatched), **shown}


def _strange(labels: list[Truth], said: set[str], signature: Signature, task: str) -> list[str]:
    """Labels that are none of the known classes; numbers are no classes where nothing says so."""
    if task in NUMERIC_TASKS:
        return []
    known = said | set(signature.classes)
    if task == "binary" or len(signature.classes) == 2:
        known |= {"0", "1"}
    counts = task in CLASSES or signature.classes
    classes = {class_text(label) for label in labels if counts or isinstance(label, str)}
    return sorted(classes - known) if known else []


def main() -> int:
    folder, model_file, since_ms, task = sys.argv[1:5]
    found = told(Path(folder), Path(model_file), int(since_ms), task)
    sys.stdout.buffer.write(msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
