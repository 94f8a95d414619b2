"""What a model needs is asked of MLflow once, and again whenever the answer might be another."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from modelyard.mlflow_plugin.requirements import model_key, pickled_packages, remembering


def model(folder: Path, name: str, stored: Any, described: str = "flavors: {}\n") -> Path:
    place = folder / name
    place.mkdir()
    (place / "MLmodel").write_text(described)
    (place / "model.pkl").write_bytes(pickle.dumps(stored))
    return place


@pytest.fixture
def asked() -> list[Path]:
    return []


@pytest.fixture
def infer(asked: list[Path], tmp_path: Path) -> Callable[..., list[str]]:
    def slow(model_uri: Any, flavor: str, fallback: Any = None) -> list[str]:
        asked.append(Path(model_uri))
        return [f"{flavor}==1"] if "broken" not in str(model_uri) else fallback

    return remembering(slow, tmp_path / "memory")


def test_models_of_one_kind_are_asked_for_once(infer: Any, asked: list[Path], tmp_path: Path) -> None:
    fitted = [LogisticRegression(C=c).fit([[0.0], [1.0]], [0, 1]) for c in (1.0, 3.0)]
    first, second = model(tmp_path, "a", fitted[0]), model(tmp_path, "b", fitted[1])
    assert infer(first, "sklearn") == infer(second, "sklearn") == ["sklearn==1"]
    assert asked == [first]


def test_the_file_of_the_data_stands_for_its_model(infer: Any, asked: list[Path], tmp_path: Path) -> None:
    first, second = (model(tmp_path, name, LogisticRegression()) / "model.pkl" for name in "ab")
    assert infer(first, "sklearn") == infer(second, "sklearn")
    assert asked == [first]


def test_skops_files_are_read_like_pickles(infer: Any, asked: list[Path], tmp_path: Path) -> None:
    places = [model(tmp_path, name, 1) for name in "abc"]
    for place, stored in zip(places, (LogisticRegression(), LogisticRegression(C=2.0), [Path("x")]), strict=True):
        (place / "model.pkl").unlink()
        skops.io.dump(stored, place / "model.skops")
        infer(place, "sklearn")
    assert asked == [places[0], places[2]]
    (places[0] / "model.skops").write_bytes(b"torn")
    assert model_key(places[0], "sklearn", {}) is None


def test_another_kind_is_asked_for_again(infer: Any, asked: list[Path], tmp_path: Path) -> None:
    plain = model(tmp_path, "plain", LogisticRegression())
    example = "saved_input_example_info: {type: dataframe}\n"
    with_example = model(tmp_path, "example", LogisticRegression(), example)
    deeper = model(tmp_path, "deeper", [LogisticRegression(), pickle.PickleBuffer, Path("x")])
    for place in (plain, with_example, deeper):
        infer(place, "sklearn")
    infer(plain, "xgboost")
    assert asked == [plain, with_example, deeper, plain]


def test_a_failed_inference_is_not_remembered(infer: Any, asked: list[Path], tmp_path: Path) -> None:
    place = model(tmp_path, "broken", LogisticRegression())
    for _ in range(2):
        assert infer(place, "sklearn", fallback=["scikit-learn"]) == ["scikit-learn"]
    assert len(asked) == 2


def test_what_may_import_anything_is_always_asked_for(tmp_path: Path) -> None:
    own_code = "flavors: {python_function: {code: code, loader_module: x}}\n"
    assert model_key(model(tmp_path, "code", 1, own_code), "sklearn", {}) is None
    assert model_key(model(tmp_path, "pyfunc", 1), "pyfunc", {}) is None
    assert model_key(model(tmp_path, "extra", 1), "sklearn", {"extra_env_vars": {"A": "1"}}) is None
    assert model_key(tmp_path / "nothing", "sklearn", {}) is None
    no_pickle = model(tmp_path, "torn", 1)
    (no_pickle / "model.pkl").write_bytes(b"no pickle")
    assert model_key(no_pickle, "sklearn", {}) is None


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_every_package_that_a_pickle_names_is_seen(protocol: int) -> None:
    stored = Pipeline([("model", LogisticRegression()), ("array", np.float64(1.5))])
    assert {"sklearn", "numpy"} <= pickled_packages(pickle.dumps(stored, protocol=protocol))
