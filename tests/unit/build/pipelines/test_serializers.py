"""Every kind of output comes back as it went in, and what cannot be kept is refused when it is written."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelyard.build.pipelines import serializers
from modelyard.build.pipelines.evaluation import Evaluation
from modelyard.domain.errors import Invalid

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def through(value: Any, folder: Path) -> Any:
    """The value after a round trip through a file."""
    serializer = serializers.for_value(value)
    file = folder / "value"
    file.unlink(missing_ok=True)
    serializer.save(value, file)
    return serializers.named(serializer.name).load(file)


@quick
@given(json_values)
def test_json_values(tmp_path: Path, value: Any):
    back = through(value, tmp_path)
    assert (back, type(back)) == (value, type(value))


def test_infinity_and_nan(tmp_path: Path):
    back = through([float("inf"), float("nan")], tmp_path)
    assert back[0] == float("inf") and back[1] != back[1]


kinds = st.sampled_from(["f8", "f4", "i8", "i4", "u1", "?", "M8[ns]", "U3"])


@quick
@given(arrays.arrays(kinds, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
def test_arrays(tmp_path: Path, array: Any):
    back = through(array, tmp_path)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)


@quick
@given(
    st.lists(
        st.tuples(st.integers(-(2**40), 2**40), st.floats(width=32), st.none() | st.text(max_size=4), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_frames(tmp_path: Path, rows: list[Any], indexed: bool):
    frame = pd.DataFrame(rows, columns=["count", "share", "text", "flag"]).astype({"text": "str"})
    frame["kind"] = pd.Categorical(["a"] * len(frame), categories=["b", "a"])
    frame["at"] = pd.Timestamp("2013-01-01")
    if indexed:
        frame = frame.set_index("count")
    pd.testing.assert_frame_equal(through(frame, tmp_path), frame)


def test_text_of_dtype_object(tmp_path: Path):
    frame = pd.DataFrame({"text": pd.Series(["a", None], dtype="object")})
    pd.testing.assert_frame_equal(through(frame, tmp_path), frame)


def test_a_loaded_frame_may_be_changed_in_place(tmp_path: Path):
    frame = through(pd.DataFrame({"x": [1.0, 2.0]}), tmp_path)
    frame.loc[0, "x"] = 5.0
    frame["x"] *= 2
    assert list(frame["x"]) == [10.0, 4.0]


def test_a_changed_frame_leaves_the_file(tmp_path: Path):
    frame = through(pd.DataFrame({"x": np.arange(5.0)}), tmp_path)
    before = (tmp_path / "value").read_bytes()
    frame["x"] = 0.0
    assert (tmp_path / "value").read_bytes() == before


def test_a_series_keeps_its_name(tmp_path: Path):
    series = pd.Series([1, 2], name="late")
    pd.testing.assert_series_equal(through(series, tmp_path), series)


def test_a_series_keeps_values_and_index(tmp_path: Path):
    series = pd.Series([1.5, 2.5], index=["a", "b"], name="value")
    pd.testing.assert_series_equal(through(series, tmp_path), series)


def large(rows: int = 500_000) -> pd.DataFrame:
    """A frame of over 100 MB with columns of every way: mapped, with missing values, of text, nullable."""
    numbers = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{n}": numbers.normal(size=rows) for n in range(24)})
    frame["count"] = numbers.integers(0, 9, rows)
    frame["text"] = "ab"
    frame["gone"] = frame["x0"].where(frame["x0"] > 0)
    frame["maybe"] = frame["count"].astype("Int64")
    return frame


@pytest.mark.parametrize("index", [None, "text", "x3"])
def test_large_frames(tmp_path: Path, index: str | None):
    frame = large().set_index(index) if index else large()
    pd.testing.assert_frame_equal(through(frame, tmp_path), frame)


def test_large_frames_whose_columns_are_no_texts(tmp_path: Path):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(500_000, 20)))
    pd.testing.assert_frame_equal(through(frame, tmp_path), frame)


def test_a_large_frame_is_changed_in_place_for_its_reader_alone(tmp_path: Path):
    frame = large()
    back = through(frame, tmp_path)
    back.loc[0, "x0"] = 5.0
    back["x1"] *= 2
    back.to_numpy(copy=False)
    assert back["x0"][0] == 5.0
    pd.testing.assert_series_equal(back["x1"], frame["x1"] * 2)
    pd.testing.assert_frame_equal(serializers.named("arrow").load(tmp_path / "value"), frame)


def test_estimators(tmp_path: Path):
    rows = np.random.default_rng(0).normal(size=(50, 3))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, rows[:, 0] > 0)
    back = through(model, tmp_path)
    np.testing.assert_array_equal(back.predict_proba(rows), model.predict_proba(rows))


def test_evaluations(tmp_path: Path):
    evaluation = Evaluation({"roc_auc": 0.7}, {"roc_auc": 0.01}, 10, "d" * 64, [{"by": "carrier"}], {"label": "late"})
    assert through(evaluation, tmp_path) == evaluation


class Point:
    """A class that no built-in format takes."""

    def __init__(self, x: int) -> None:
        self.x = x


@pytest.mark.parametrize("value", [Point(1), object(), lambda: 1, {1: "a"}, (1, 2), np.array([object()])])
def test_nothing_is_pickled_silently(value: Any):
    with pytest.raises(Invalid, match="has no serializer") as error:
        serializers.for_value(value)
    assert "register_serializer" in error.value.remedy


class Taught(Point):
    """A class that a project teaches."""


def test_a_type_can_be_taught(tmp_path: Path):
    serializers.register_serializer(
        "point", Taught, lambda value, path: path.write_text(str(value.x)), lambda path: Taught(int(path.read_text()))
    )
    assert through(Taught(7), tmp_path).x == 7


def test_an_unknown_format_says_what_to_do():
    with pytest.raises(Invalid, match="'rds'") as error:
        serializers.named("rds")
    assert "Register" in error.value.remedy


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(np.ma.masked_array([1.0, 2.0], mask=[False, True]), id="masked-array"),
        pytest.param(np.zeros(2, dtype=[("a", "O")]), id="structured-with-objects"),
    ],
)
def test_arrays_that_npy_cannot_hold_are_refused(value: Any):
    with pytest.raises(Invalid):
        serializers.for_value(value)


def test_a_dataclass_inside_a_function_is_refused():
    @dataclasses.dataclass
    class Local:
        x: int = 1

    with pytest.raises(Invalid):
        serializers.for_value(Local())


def test_numpy_scalars_are_numbers(tmp_path: Path):
    assert through(np.float64(1.5), tmp_path) == 1.5
