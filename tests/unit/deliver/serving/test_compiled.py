"""The typed decoder gives what the general way gives, or leaves the request to it."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.deliver.serving.compiled import compile_signature
from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.mlflow_scoring import parse_invocation
from modelyard.deliver.serving.signature import Column, Signature

KINDS = ("double", "float", "long", "integer")
ALL_KINDS = (*KINDS, "string", "boolean")
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
)
NUMBERS = st.integers(-(2**31), 2**31 - 1) | st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def requests(draw: st.DrawFn) -> tuple[Signature, dict[str, Any]]:
    """A signature and a request that may fit it."""
    kinds = draw(st.lists(st.sampled_from(draw(st.sampled_from([KINDS, ALL_KINDS]))), min_size=1, max_size=4))
    names = [f"c{index}" for index in range(len(kinds))]
    columns = [Column(name, kind, draw(st.booleans())) for name, kind in zip(names, kinds, strict=True)]
    fitting = {"string": st.text(max_size=3) | st.none(), "boolean": st.booleans()}
    cells = [fitting.get(kind, NUMBERS) if draw(st.booleans()) else VALUES for kind in kinds]
    signature = Signature(tuple(columns))
    rows = draw(st.lists(st.tuples(*cells).map(list), max_size=4))
    key = draw(st.sampled_from(["dataframe_split", "dataframe_records", "instances", "bare", "inputs"]))
    if key == "dataframe_split":
        return signature, {key: {"columns": draw(st.sampled_from([names, names[::-1]])), "data": rows}}
    if key == "bare":
        return signature, {"instances": rows}
    return signature, {key: [dict(zip(names, row, strict=True)) for row in rows]}


@given(requests())
def test_both_ways_give_the_same_numbers_or_the_general_one_refuses(request: tuple[Signature, dict[str, Any]]):
    signature, content = request
    body = json.dumps(content).encode()
    compiled = compile_signature(signature)
    assert compiled is not None
    with np.errstate(over="ignore"):  # too large for single precision is infinite both ways
        fast = compiled.decode(body)
        if fast is None:
            return
        slow = parse_invocation(body, "application/json", signature)
        if not signature.all_numeric:
            assert fast.rows == slow.rows and fast.matrix is None and fast.columns == slow.columns
            return
        expected = signature.matrix(slow.columns)
    assert fast.rows == slow.rows and fast.matrix.dtype == expected.dtype
    if fast.rows:
        np.testing.assert_array_equal(fast.matrix, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_common_requests_take_the_short_way(kind: str):
    compiled = compile_signature(Signature((Column("x", kind, True), Column("y", kind, True))))
    assert compiled is not None
    for content in (
        {"dataframe_split": {"columns": ["x", "y"], "data": [[1, 2]]}},
        {"dataframe_records": [{"x": 1, "y": 2, "more": "z"}]},
        {"instances": [{"y": 2, "x": 1}]},
        {"instances": [[1, 2]]},
    ):
        parsed = compiled.decode(json.dumps(content).encode())
        assert parsed is not None and parsed.matrix.tolist() == [[1, 2]]


def test_text_and_optional_columns_take_the_short_way_too():
    compiled = compile_signature(Signature((Column("x", "double", False), Column("y", "string", True))))
    assert compiled is not None
    body = {"dataframe_records": [{"x": None, "y": "a"}, {"y": None, "x": 1}]}
    parsed = compiled.decode(json.dumps(body).encode())
    assert parsed is not None and parsed.columns == {"x": [None, 1.0], "y": ["a", None]}
    assert compiled.decode(b'{"dataframe_records": [{"y": "a"}]}') is None


def test_times_are_not_compiled():
    assert compile_signature(Signature((Column("x", "datetime", True),))) is None
    assert compile_signature(Signature(())) is None


def test_a_value_that_does_not_fit_is_left_to_the_way_that_names_it():
    signature = Signature((Column("x", "integer", True),))
    body = b'{"instances": [{"x": 3000000000}]}'
    compiled = compile_signature(signature)
    assert compiled is not None and compiled.decode(body) is None
    with pytest.raises(BadInput, match="'x', row 0: 3000000000 is out of range for integer"):
        parse_invocation(body, "application/json", signature)
