"""scikit-learn models in MLflow's model format, written and read without importing MLflow (which takes seconds)."""

import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from modelyard.build.pipelines import model_code
from modelyard.domain.errors import Invalid, MissingExtra
from modelyard.kit.ids import new_id
from modelyard.kit.quick_skops import skops_io

FORMAT_VERSION = "3.17.2"
"""The MLflow release whose layout is written; a test loads it with the stock library."""
KINDS = {"i": "long", "u": "long", "f": "double", "b": "boolean"}


def save(model: Any, folder: Path, example: Any, also: Sequence[str] = (), answers: str = "") -> None:
    """Write an estimator as an MLflow model folder: MLmodel, model.skops, requirements, signature, input example.

    example: a frame of a few input rows; also: requirements beside those of the estimator; answers: see
    `served_function`. A classifier's classes stand in the MLmodel's metadata. Raises Invalid when `model` is no
    scikit-learn estimator.
    """
    try:
        import yaml

        skops = skops_io()  # late: heavy, and only registration needs it
    except ImportError as error:
        raise MissingExtra(error.name or "skops", "build", "Registering a model") from error
    if not any(kind.__module__.startswith("sklearn.") for kind in type(model).__mro__):
        raise Invalid(
            f"yard.register takes a scikit-learn estimator, not {type(model).__qualname__}.",
            remedy="Log other flavors with mlflow.<flavor>.log_model and register them with mlflow.register_model.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    skops.dump(model, folder / "model.skops")
    trusted = skops.get_untrusted_types(file=folder / "model.skops")
    function = served_function(model, answers)
    modules = model_code.modules_of(trusted)
    code = "code" if model_code.copy_project(modules, folder / "code") else None
    requirements = [*model_code.requirements(modules, own=code is not None), *also]
    python = platform.python_version()
    _write_environment(folder, python, requirements)
    split = json.loads(example.to_json(orient="split", index=False))
    (folder / "input_example.json").write_text(json.dumps(split))
    (folder / "serving_input_example.json").write_text(json.dumps({"dataframe_split": split}))
    sklearn_flavor: dict[str, Any] = {
        "code": code,
        "pickled_model": "model.skops",
        "serialization_format": "skops",
        "sklearn_version": metadata.version("scikit-learn"),
        "skops_trusted_types": trusted,
    }
    python_flavor: dict[str, Any] = {
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "loader_module": "mlflow.sklearn",
        "model_path": "model.skops",
        "predict_fn": function,
        "python_version": python,
    }
    if code:
        python_flavor["code"] = code
    described: dict[str, Any] = {
        "flavors": {"python_function": python_flavor, "sklearn": sklearn_flavor},
        "mlflow_version": FORMAT_VERSION,
        "model_size_bytes": (folder / "model.skops").stat().st_size,
        "model_uuid": new_id(),
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "pandas_orient": "split",
            "serving_input_path": "serving_input_example.json",
            "type": "dataframe",
        },
        "signature": _signature(model, function, example),
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    classes = getattr(model, "classes_", None)
    if classes is not None and getattr(classes, "ndim", 1) == 1:
        described["metadata"] = {"classes": classes.tolist()}
    (folder / "MLmodel").write_text(yaml.safe_dump(described))


def served_function(model: Any, answers: str = "") -> str:
    """The function whose answers are served: `predict_proba` for `probabilities`, `predict` for `classes`.

    Without either: probabilities of a classifier of two classes, else `predict`. Raises Invalid for probabilities of
    a model that has none.
    """
    able = hasattr(model, "predict_proba")
    if answers == "probabilities" and not able:
        raise Invalid(
            f"{type(model).__qualname__} has no predict_proba to answer probabilities with.",
            remedy='Register it with answers="classes", or calibrate it: sklearn.calibration.CalibratedClassifierCV.',
        )
    if answers not in ("", "classes", "probabilities"):
        raise Invalid(f"answers is {answers!r}.", remedy='It is "classes" or "probabilities".')
    if answers:
        return "predict_proba" if answers == "probabilities" else "predict"
    return "predict_proba" if able and len(getattr(model, "classes_", (0, 1))) == 2 else "predict"


def load(folder: Path) -> Any:
    """The estimator of a folder that `save` or MLflow wrote with skops. Raises Invalid for another format.

    The caller vouches for the files: they come from a version whose digests were checked.
    """
    import yaml

    described = yaml.safe_load((folder / "MLmodel").read_text())
    flavor = described.get("flavors", {}).get("sklearn", {})
    if flavor.get("serialization_format") != "skops":
        raise Invalid(
            "The champion is not a scikit-learn model in skops format.",
            remedy="Compare it by an evaluation of your own.",
        )
    return skops_io().load(folder / flavor["pickled_model"], trusted=flavor.get("skops_trusted_types") or [])


def _write_environment(folder: Path, python: str, requirements: list[str]) -> None:
    """What the model runs in, as pip, virtualenv and conda take it."""
    import yaml  # late: see above

    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
    environment = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (folder / "python_env.yaml").write_text(yaml.safe_dump(environment, sort_keys=False))
    pip: list[Any] = [f"python={python}", "pip", {"pip": requirements}]
    conda = {"channels": ["conda-forge"], "dependencies": pip, "name": "mlflow-env"}
    (folder / "conda.yaml").write_text(yaml.safe_dump(conda, sort_keys=False))


def _signature(model: Any, function: str, example: Any) -> dict[str, Any]:
    inputs = [
        {"type": KINDS.get(kind.kind if hasattr(kind, "kind") else "O", "string"), "name": name, "required": True}
        for name, kind in example.dtypes.items()
    ]
    output = getattr(model, function)(example)
    if output.dtype.kind in "OUT":
        named = json.dumps([{"type": "string", "required": True}])
        return {"inputs": json.dumps(inputs), "outputs": named, "params": None}
    tensor = {"dtype": str(output.dtype), "shape": [-1, *output.shape[1:]]}
    return {
        "inputs": json.dumps(inputs),
        "outputs": json.dumps([{"type": "tensor", "tensor-spec": tensor}]),
        "params": None,
    }
