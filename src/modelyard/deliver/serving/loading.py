"""From a manifest to a model that predicts: digests are checked before anything is loaded."""

import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.deliver.serving import flavors
from modelyard.deliver.serving import signature as signatures
from modelyard.deliver.serving.bits import Unusual
from modelyard.deliver.serving.description import describe, own_libraries
from modelyard.deliver.serving.signature import Signature
from modelyard.domain.errors import Conflict, Invalid, ModelyardError
from modelyard.kit.hashing import digest_file

TRIED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a model that needs a frame raises when it is given an array."""


@dataclass(frozen=True)
class Loaded:
    """`predict` takes columns by name or one array, and answers one row for each, or as its pyfunc pleases.

    takes_matrix: whether columns of numbers may come as one array, without a frame.
    vectorised: whether rows of several requests may be predicted in one call.
    """

    signature: Signature
    predict: Callable[[Any], Any]
    takes_matrix: bool = False
    vectorised: bool = False
    takes_params: bool = False
    mlflow_version: str = ""
    example: bytes = b""


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
    described = describe(folder)
    signature = signatures.parse(described)
    code = ((described.get("flavors") or {}).get("python_function") or {}).get("code")
    if code:
        sys.dont_write_bytecode = True  # a cache beside the model's code would be a file that nobody approved
        sys.path.insert(0, str(folder / code))
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    try:
        model = flavors.open_model(folder, described, signature)
    except ModelyardError:
        raise
    except ImportError as error:
        own = own_libraries(folder)
        raise Invalid(
            f"{folder} needs the Python module {error.name or error}, which is not installed here.",
            remedy=f"Install what the model is served with: pip install 'modelyard[serve]' {own}".rstrip(),
        ) from error
    except Exception as error:  # a loader runs the model's own code, which may raise anything
        raise Invalid(
            f"The model in {folder} could not be loaded: {type(error).__name__}: {error}.",
            remedy="Log it again with the versions that its requirements.txt names.",
        ) from error
    takes_matrix = signature.all_numeric and _works_on_arrays(model, signature)
    if signature.columns and not takes_matrix:
        signature.frame({name: [] for name in signature.names})  # imports pandas now, not with the first request
    return Loaded(
        signature,
        _predict(model, signature, takes_matrix),
        takes_matrix,
        model.vectorised,
        model.takes_params,
        str(described.get("mlflow_version") or ""),
        _example(folder),
    )


def _predict(model: flavors.Model, signature: Signature, takes_matrix: bool) -> Callable[..., Any]:
    """One call for every kind of input: columns become an array where that is the same, or a frame."""

    def predict(inputs: Any, **params: Any) -> Any:
        if not isinstance(inputs, dict):
            if not takes_matrix and signature.all_numeric:
                inputs = signature.frame(dict(zip(signature.names, inputs.T.tolist(), strict=True)))
            return model.predict(inputs, **params)
        if signature.tensors:
            return model.predict(inputs, **params)
        if model.by_columns is not None and not params:
            with suppress(Unusual):
                return model.by_columns(inputs)
        given = signature.matrix(inputs) if takes_matrix else signature.frame(inputs)
        return model.predict(given, **params)

    return predict


def _works_on_arrays(model: flavors.Model, signature: Signature) -> bool:
    """Whether an array in the signature's order is the same to the model as a frame, tried on one row of zeros."""
    import numpy as np

    if not model.arrays:
        return False
    if model.feature_names is not None and list(model.feature_names) != signature.names:
        return False
    try:
        model.predict(np.zeros((1, len(signature.names)), dtype=signature.matrix_dtype))
    except TRIED:
        return False
    return True


def _example(folder: Path) -> bytes:
    file = folder / "serving_input_example.json"
    return file.read_bytes() if file.exists() and file.stat().st_size < 1 << 20 else b""
