"""Models by MLflow flavor: the libraries' own predictors where they take arrays, pyfunc for everything else."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from modelyard.deliver.serving import boosters, prepared, shortcuts, torch_models, twins
from modelyard.deliver.serving.description import own_libraries
from modelyard.deliver.serving.onnx_sessions import opened
from modelyard.deliver.serving.parsed import NamedRows
from modelyard.deliver.serving.signature import Signature
from modelyard.domain.errors import Invalid, MissingExtra
from modelyard.kit.quick_skops import skops_io

ROW_BY_ROW = frozenset(
    f"mlflow.{name}"
    for name in (
        "sklearn",
        "xgboost",
        "lightgbm",
        "catboost",
        "onnx",
        "pytorch",
        "tensorflow",
        "keras",
        "statsmodels",
    )
)
"""Loaders of models that answer each row by that row alone, so that requests may share a call."""


@dataclass(frozen=True)
class Model:
    """`predict` takes an array or a frame; `arrays`: whether an array may stand for a frame of numbers.

    by_columns: the same of lists by name, without a frame; raises shortcuts.Unusual for what `predict` must answer.
    """

    predict: Callable[..., Any]
    vectorised: bool
    arrays: bool = False
    feature_names: Sequence[str] | None = None
    takes_params: bool = False
    by_columns: Callable[[dict[str, Any]], Any] | None = None


def open_model(folder: Path, described: dict[str, Any], signature: Signature) -> Model:
    """The model in a folder. Raises what its library raises; Invalid for a format that is not known."""
    flavors = described.get("flavors") or {}
    function = (flavors.get("python_function") or {}).get("predict_fn") or "predict"
    twin = twins.find(folder, function)
    if twin is not None:
        return Model(twin, True, True, twin.note.columns)
    for name, open_flavor in OPENERS.items():
        found = open_flavor(folder, flavors[name], function, signature) if name in flavors else None
        if found is not None:
            return found
    return _pyfunc(folder, flavors.get("python_function") or {}, signature)


def _sklearn(folder: Path, flavor: dict[str, Any], function: str, signature: Signature) -> Model:
    model = _estimator(folder / flavor["pickled_model"], flavor)
    names = getattr(model, "feature_names_in_", None)
    if signature.all_numeric and names is not None and list(names) == signature.names:
        return Model(shortcuts.of(model, function), True, True, names)
    return Model(getattr(model, function), True, True, names, by_columns=prepared.of(model, function, signature))


def _estimator(file: Path, flavor: dict[str, Any]) -> Any:
    """The estimator, read as the flavor says, without importing MLflow."""
    kind = flavor.get("serialization_format") or "cloudpickle"
    if kind == "skops":
        import_sklearn()
        return skops_io().load(file, trusted=flavor.get("skops_trusted_types") or [])
    if kind in ("cloudpickle", "pickle"):
        return _unpickled(file)
    raise Invalid(
        f"The serialization format {kind!r} is not known.", remedy="Log the model with skops or cloudpickle."
    )


def import_sklearn() -> None:
    """Import scikit-learn without pandas, which it looks for in one module only to note whether it is there.

    It is half of a worker's start and a third of its memory; models that need frames import it themselves.
    """
    if "pandas" in sys.modules:
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]  # an import of it fails, as if it were not installed
    try:
        import_module("sklearn.utils.fixes")
    finally:
        del sys.modules["pandas"]


def _xgboost(folder: Path, flavor: dict[str, Any], function: str, signature: Signature) -> Model:
    import xgboost

    kind = str(flavor.get("model_class") or "xgboost.core.Booster")
    file = folder / (flavor.get("data") or "model.xgb")
    if kind.rpartition(".")[2] == "Booster":
        booster = xgboost.Booster(model_file=str(file))
        names = booster.feature_names
        named = boosters.xgboost_categories(booster, signature)

        def predict(given: Any) -> Any:
            if hasattr(given, "columns"):
                return booster.predict(xgboost.DMatrix(given, enable_categorical=bool(named)))
            return booster.predict(xgboost.DMatrix(given, feature_names=names))

        return Model(boosters.with_categories(predict, named, unknown=False) if named else predict, True, True, names)
    if not kind.startswith("xgboost."):
        raise Invalid(f"The model class {kind!r} is not one of XGBoost's.", remedy="Log it with mlflow.pyfunc.")
    model = getattr(xgboost, kind.rpartition(".")[2])()
    model.load_model(str(file))
    booster = model.get_booster()
    named = boosters.xgboost_categories(booster, signature)
    if not named:
        return Model(shortcuts.of(model, function), True, True, booster.feature_names)
    return _of_categories(model, function, booster.feature_names or [], named, signature, unknown=False)


def _of_categories(
    model: Any, function: str, names: list[str], named: boosters.Named, signature: Signature, *, unknown: bool
) -> Model:
    """A booster's model that was trained on categories."""
    own = boosters.with_categories(getattr(model, function), named, unknown=unknown)
    short = boosters.short(model, function)
    quick = None if short is None else boosters.by_columns(short, own, names, named, signature, unknown=unknown)
    return Model(own, True, False, names, by_columns=quick)


def _lightgbm(folder: Path, flavor: dict[str, Any], function: str, signature: Signature) -> Model:
    file = folder / (flavor.get("data") or "model.lgb")
    if str(flavor.get("lgb_model_class") or "").endswith("Booster") or file.suffix in (".lgb", ".txt"):
        import lightgbm

        booster = lightgbm.Booster(model_file=str(file))
        named = boosters.lightgbm_categories(booster, signature)
        predict = boosters.with_categories(booster.predict, named, unknown=True) if named else booster.predict
        return Model(predict, True, True, _clean_names(booster.feature_name()))
    model = _estimator(file, flavor)
    model.n_jobs = 1  # a worker serves one call at a time; counting the cores takes longer than the trees
    named = boosters.lightgbm_categories(model.booster_, signature)
    if not named:
        return Model(shortcuts.of(model, function), True, True, _clean_names(model.feature_name_))
    return _of_categories(model, function, model.feature_name_, named, signature, unknown=True)


def _clean_names(names: Sequence[str] | None) -> Sequence[str] | None:
    """LightGBM's names; None when it made them up because it was trained on an array."""
    if names is None or all(name == f"Column_{index}" for index, name in enumerate(names)):
        return None
    return names


def _onnx(folder: Path, flavor: dict[str, Any], _: str, signature: Signature) -> Model:
    import numpy as np

    session = opened(folder / (flavor.get("data") or "model.onnx"))
    inputs, outputs = session.get_inputs(), [output.name for output in session.get_outputs()]
    kinds = {
        "tensor(float)": "float32",
        "tensor(double)": "float64",
        "tensor(int64)": "int64",
        "tensor(int32)": "int32",
    }

    def feed(given: Any) -> dict[str, Any]:
        if len(inputs) == 1 and not isinstance(given, dict):
            values = given.to_numpy() if hasattr(given, "to_numpy") else given
            return {inputs[0].name: values.astype(kinds.get(inputs[0].type, values.dtype), copy=False)}
        named = {one.name: np.asarray(given[one.name]) for one in inputs}
        shaped = {name: value.reshape(-1, 1) if value.ndim == 1 else value for name, value in named.items()}
        return {one.name: shaped[one.name].astype(kinds.get(one.type, object), copy=False) for one in inputs}

    def predict(given: Any) -> Any:
        found = dict(zip(outputs, session.run(outputs, feed(given)), strict=True))
        held = NamedRows if signature.columns else dict[str, Any]  # as its frame is, and its dictionary of arrays
        return held({name: _of_maps(value) for name, value in found.items()})

    return Model(predict, True, len(inputs) == 1)


def _pytorch(folder: Path, flavor: dict[str, Any], _: str, signature: Signature) -> Model | None:
    named = bool(signature.columns)
    predict = torch_models.open_module(folder / (flavor.get("model_data") or "data"), named=named)
    return None if predict is None else Model(predict, True, True)


def _catboost(folder: Path, flavor: dict[str, Any], function: str, _: Signature) -> Model:
    catboost = import_module("catboost")
    model = getattr(catboost, str(flavor.get("model_type") or "CatBoost"))()
    model.load_model(str(folder / flavor["data"]), format=flavor.get("save_format") or "cbm")
    return Model(getattr(model, function), True, True, model.feature_names_)


def _of_maps(value: Any) -> Any:
    """Class probabilities that a converter wrote as one map a row, as an array."""
    import numpy as np

    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.array([list(row.values()) for row in value])
    return value


def _unpickled(file: Path) -> Any:
    import pickle  # an approved version, its digest checked: the only place where a pickle is read

    data = file.read_bytes()
    if b"sklearn" in data:
        import_sklearn()
    return pickle.loads(data)


def _enforceable(frame: Any, signature: Signature) -> Any:
    """The frame as MLflow's check of signatures takes it: times in UTC without a zone, no column of nothing.

    Only numbers with a point, text and times may be missing there; optional columns of other types are left out.
    """
    for column in signature.columns:
        values = frame[column.name]
        if column.type == "datetime" and getattr(values.dtype, "tz", None) is not None:
            frame[column.name] = values.dt.tz_convert("UTC").dt.tz_localize(None)
        elif (
            column.type not in ("double", "float", "string", "datetime")
            and not column.required
            and values.isna().all()
        ):
            frame = frame.drop(columns=column.name)
    return frame


def _pyfunc(folder: Path, flavor: dict[str, Any], signature: Signature) -> Model:
    try:
        from mlflow import pyfunc
    except ImportError as error:
        needed, beside = error.name or "mlflow", f"mlflow-skinny {own_libraries(folder)}"
        raise MissingExtra(needed, "serve", "Serving a model of this flavor", beside) from error
    model = pyfunc.load_model(str(folder))

    def predict(given: Any, **params: Any) -> Any:
        if hasattr(given, "columns"):
            given = _enforceable(given, signature)
        return model.predict(given, params=params) if params else model.predict(given)

    return Model(predict, flavor.get("loader_module") in ROW_BY_ROW, takes_params=True)


OPENERS: dict[str, Callable[[Path, dict[str, Any], str, Signature], Model | None]] = {
    "sklearn": _sklearn,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
    "onnx": _onnx,
    "pytorch": _pytorch,
}
"""Flavors that are opened without MLflow; what gives None is opened through pyfunc after all."""
