"""PyTorch's modules as MLflow saves them (pickled, TorchScript, exported), on the processor and without MLflow.

MLflow takes as long to import as PyTorch itself.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.deliver.serving.parsed import NamedRows

PICKLES = {"mlflow.pytorch.pickle_module": "pickle"}
"""What reads the pickles of a module that only writing them needs."""


def open_module(folder: Path, *, named: bool) -> Any:
    """The function of arrays and frames, as `mlflow.pytorch` makes it; None where its own loader is needed.

    folder: the flavor's data; named: answers of two dimensions are one array for each column, as its frame is.
    """
    torch = import_module("torch")  # late: only its models need it

    if torch.cuda.is_available() or os.environ.get("MLFLOW_DEFAULT_PREDICTION_DEVICE", "cpu") != "cpu":
        return None
    module = _read(folder)
    if type(module).__module__.startswith("pytorch_forecasting"):
        return None

    def predict(given: Any) -> Any:
        rows = given.to_numpy(dtype=np.float32) if hasattr(given, "to_numpy") else given
        if named and rows.dtype != np.float32:
            rows = rows.astype(np.float32)
        with torch.no_grad():
            found = module(torch.from_numpy(np.ascontiguousarray(rows)))
        if not isinstance(found, torch.Tensor):
            raise TypeError(f"the module answered {type(found).__name__}, not one tensor")
        answers = found.numpy()
        if named and answers.ndim <= 2:
            return NamedRows((str(place), column) for place, column in enumerate(answers.reshape(len(answers), -1).T))
        return answers

    return predict


def _read(folder: Path) -> Any:
    torch = import_module("torch")

    if (folder / "model.pt2").exists():
        return torch.export.load(folder / "model.pt2").module()
    name = (folder / "pickle_module_info.txt").read_text().strip()
    pickles = import_module(PICKLES.get(name, name))
    # an approved version, its digest checked: this may be a pickle
    module = torch.load(folder / "model.pth", map_location="cpu", pickle_module=pickles, weights_only=False)
    return module.eval()
