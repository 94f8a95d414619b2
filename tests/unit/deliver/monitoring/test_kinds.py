"""Text, vectors and images, as real data has them: what is found of each, and what is refused in words."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_digits

import modelyard
from modelyard.domain.errors import Invalid

ROOT = Path(__file__).parents[4]
VECTORS, TARGET = (np.asarray(part) for part in load_digits(return_X_y=True))
IMAGES = VECTORS[np.random.default_rng(0).permutation(len(VECTORS))]
"""8 x 8 pixels of a written digit a row, flattened: an embedding of the simplest kind."""


def sentences() -> list[str]:
    """What the documentation says, in a fixed mixture."""
    pages = " ".join(page.read_text() for page in sorted((ROOT / "docs").rglob("*.md")))
    found = [text.strip() for text in re.split(r"(?<=[.!?])\s+", pages) if 30 < len(text) < 300]
    return [found[at] for at in np.random.default_rng(0).permutation(len(found))[:1200]]


def test_text_of_another_kind_is_found_and_of_the_same_is_not() -> None:
    said = sentences()
    code = [line for file in sorted((ROOT / "src").rglob("*.py"))[:60] for line in file.read_text().splitlines()]
    code = [line for line in code if len(line) > 30][:300]
    assert modelyard.compare_data({"note": pa.array(said[:600])}, {"note": pa.array(said[600:])}).passed
    found = modelyard.compare_data({"note": pa.array(said[:300])}, {"note": pa.array(code)}, joint=True)
    assert not found.passed and found.joint is not None and found.joint["low"] > 0.8


@pytest.mark.parametrize("shape", ["lists", "array", "polars"])
def test_vectors_of_the_same_digits_do_not_drift_and_of_other_digits_do(shape: str) -> None:
    def held(rows: Any) -> Any:
        if shape == "polars":
            import polars as pl

            return pl.DataFrame({"image": rows}, schema={"image": pl.Array(pl.Float64, 64)})
        return {"image": rows if shape == "array" else pa.array(list(rows))}

    assert modelyard.compare_data(held(IMAGES[:900]), held(IMAGES[900:])).passed
    found = modelyard.compare_data(held(VECTORS[TARGET < 5]), held(VECTORS[TARGET >= 5]))
    assert not found.passed and all(name.startswith("image.") for name in found.drifted)


def test_vectors_that_are_missing_are_missing_and_those_of_another_model_are_seen() -> None:
    some: Any = [None] * 300 + IMAGES[:600].tolist()
    found = modelyard.compare_data({"image": pa.array(some)}, {"image": pa.array(IMAGES[600:].tolist())})
    assert found.passed and {column.missing_before for column in found.columns} == {1 / 3}
    other = modelyard.compare_data({"image": IMAGES[:900]}, {"image": IMAGES[900:, :32]})
    assert "image.width" in other.drifted


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([[1.0, 2.0]] * 300 + [[1.0]] * 300), "vectors of 2 numbers and of 1"),
        (pa.array([b"\x89PNG\xff"] * 300), "bytes, such as images"),
        (IMAGES[:300].reshape(-1, 8, 8), "arrays of 2 dimensions, such as images"),
        (pa.array([{"a": 1}] * 300), "records"),
        (pa.array([["a", "b"]] * 300), "lists of string"),
    ],
)
def test_what_cannot_be_compared_is_named_with_what_to_do(values: Any, said: str) -> None:
    with pytest.raises(Invalid, match=f"photo holds {said}") as raised:
        modelyard.compare_data({"photo": values}, {"photo": values})
    assert "mbed" in raised.value.remedy
    other = np.arange(300.0)
    assert modelyard.compare_data({"photo": values, "x": other}, {"x": other}, ignore=["photo"]).passed
