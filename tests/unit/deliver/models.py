"""Models whose code comes with them, and ports: what the tests of serving and of deployments both need."""

import importlib.util
import json
import pickle
import random
import socket
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


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def lasting_port() -> int:
    """A free port that the system gives to no outgoing connection, so that a stopped yard finds it free again."""
    for port in random.sample(range(20_000, 32_000), 50):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
