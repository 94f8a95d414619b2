"""Models whose code comes with them."""

import importlib.util
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml


def coded_model(
    folder: Path,
    name: str,
    source: str,
    make: Callable[[ModuleType], object],
    columns: tuple[str, ...] = ("x",),
    flavor: str = "sklearn",
) -> Path:
    """An MLflow folder of a pickled object of a module of its own; columns are numbers.

    flavor: `sklearn`, or `python_function` alone.
    """
    (folder / "code").mkdir(parents=True)
    (folder / "code" / f"{name}.py").write_text(source)
    spec = importlib.util.spec_from_loader(name, loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(source, module.__dict__)
    sys.modules[name] = module
    try:
        (folder / "model.pkl").write_bytes(pickle.dumps(make(module)))
    finally:
        del sys.modules[name]
    flavors: dict[str, Any] = {
        "python_function": {"code": "code", "loader_module": "mlflow.sklearn", "model_path": "model.pkl"}
    }
    if flavor == "sklearn":
        flavors["sklearn"] = {"pickled_model": "model.pkl", "serialization_format": "pickle", "code": "code"}
    inputs = json.dumps([{"name": column, "type": "double", "required": True} for column in columns])
    signature = {"inputs": inputs, "outputs": None, "params": None}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, "signature": signature}))
    return folder
