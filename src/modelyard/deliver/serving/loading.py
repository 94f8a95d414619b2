"""From a manifest to a model that predicts: digests are checked before anything is loaded."""

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.deliver.serving import signature as signatures
from modelyard.deliver.serving.signature import Signature
from modelyard.domain.errors import Conflict, Invalid, MissingExtra
from modelyard.kit.hashing import digest_file


@dataclass(frozen=True)
class Loaded:
    """`predict` takes columns by name and answers an array or frame with one row for each."""

    signature: Signature
    predict: Callable[[dict[str, list[Any]]], Any]


def check_manifest(folder: Path, manifest: dict[str, str]) -> None:
    """Raise Conflict unless the folder holds exactly the files of the manifest, with their digests."""
    present = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    strange = sorted(present ^ set(manifest))
    if strange:
        raise Conflict(
            f"{folder}: {strange[0]} is missing or not in the manifest.", remedy="Deploy the version again."
        )
    for path, digest in manifest.items():
        if digest_file(folder / path) != digest:
            raise Conflict(
                f"{folder}: {path} does not match its approved digest.", remedy="Deploy the version again."
            )


def load(folder: Path) -> Loaded:
    """The model in an MLflow folder whose files were checked. Raises Invalid, MissingExtra."""
    try:
        import yaml
    except ImportError as error:
        raise MissingExtra("pyyaml", "serve", "Serving a model") from error
    described = yaml.safe_load((folder / "MLmodel").read_text())
    flavors = described.get("flavors") or {}
    signature = signatures.parse(described)
    code = (flavors.get("python_function") or {}).get("code")
    if code:
        sys.path.insert(0, str(folder / code))
    if "sklearn" in flavors:
        model = _sklearn(folder, flavors["sklearn"])
        function = (flavors.get("python_function") or {}).get("predict_fn") or "predict"
        predict = getattr(model, function)
    else:
        predict = _pyfunc(folder)
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    if "sklearn" in flavors and signature.all_numeric and _same_on_arrays(predict, signature, folder):
        return Loaded(signature, lambda columns: predict(signature.matrix(columns)))
    return Loaded(signature, lambda columns: predict(signature.frame(columns)))


def _sklearn(folder: Path, flavor: dict[str, Any]) -> Any:
    """The estimator, read as the flavor says, without importing MLflow."""
    file, kind = folder / flavor["pickled_model"], flavor.get("serialization_format", "cloudpickle")
    if kind == "skops":
        import skops.io  # the worker loads only what its model needs

        return skops.io.load(file, trusted=flavor.get("skops_trusted_types") or [])
    if kind in ("cloudpickle", "pickle"):
        import pickle  # an approved version, its digest checked: the only place where a pickle is read

        with file.open("rb") as stream:
            return pickle.load(stream)
    raise Invalid(
        f"The serialization format {kind!r} is not known.", remedy="Log the model with skops or cloudpickle."
    )


def _pyfunc(folder: Path) -> Callable[[Any], Any]:
    try:
        from mlflow import pyfunc
    except ImportError as error:
        raise MissingExtra("mlflow-skinny", "build", "Serving a model of this flavor") from error
    return pyfunc.load_model(str(folder)).predict


def _same_on_arrays(predict: Callable[[Any], Any], signature: Signature, folder: Path) -> bool:
    """Whether the model answers the same for a plain array as for a frame, tried on its input example."""
    import numpy as np

    file = folder / "input_example.json"
    if not file.exists():
        return False
    example = json.loads(file.read_text())
    if set(example.get("columns", [])) != set(signature.names):
        return False
    columns = {name: [row[i] for row in example["data"]] for i, name in enumerate(example["columns"])}
    try:
        return bool(
            np.array_equal(predict(signature.matrix(columns)), predict(signature.frame(columns)), equal_nan=True)
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False
