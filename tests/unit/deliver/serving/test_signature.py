"""Signatures: what is taken, what is refused, and with which words."""

import json
from typing import Any

import numpy as np
import pytest

from modelyard.deliver.serving import signature as signatures
from modelyard.deliver.serving.columns import Column
from modelyard.deliver.serving.errors import BadCell, BadInput
from modelyard.deliver.serving.signature import Signature, Tensor


def of(**types: str) -> Signature:
    return Signature(tuple(Column(name, kind, True) for name, kind in types.items()))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("double", [1, 1.5, None]),
        ("float", [0, -2.5, None]),
        ("long", [1, -(2**40)]),
        ("integer", [0, 7]),
        ("boolean", [True, False]),
        ("string", ["a", "", None]),
        ("datetime", ["2026-11-24T17:00:00Z", None]),
    ],
)
def test_values_of_the_type_are_taken_as_they_are(kind: str, values: list[Any]):
    assert of(x=kind).take({"x": values}, len(values)) == {"x": values}


@pytest.mark.parametrize(
    ("kind", "value", "expected", "found"),
    [
        ("double", "1.5", "a number", "text '1.5'"),
        ("double", True, "a number", "boolean 'True'"),
        ("long", 1.5, "a whole number", "number '1.5'"),
        ("long", None, "a whole number", "nothing (null)"),
        ("boolean", 1, "true or false", "number '1'"),
        ("string", 3, "text", "number '3'"),
        ("datetime", 20261124, "an ISO 8601 time as text", "number '20261124'"),
        ("double", [1, 2], "a number", "list '[1, 2]'"),
    ],
)
def test_another_type_is_refused_with_column_row_and_both_types(kind: str, value: Any, expected: str, found: str):
    good = {"double": 1.0, "long": 1, "boolean": True, "string": "", "datetime": "2026-01-01"}[kind]
    with pytest.raises(BadInput) as error:
        of(x=kind).take({"x": [good, value]}, 2)
    assert str(error.value) == f"Column 'x', row 1: expected {expected}, found {found}."
    assert error.value.status == 400


def test_long_values_are_cut_in_the_message():
    with pytest.raises(BadInput) as error:
        of(x="double").take({"x": ["4711 " * 100]}, 1)
    assert len(str(error.value)) < 120


def test_other_columns_are_dropped_and_missing_ones_named():
    signature = of(a="double", b="string")
    assert signature.take({"b": ["x"], "z": [9], "a": [1.0]}, 1) == {"a": [1.0], "b": ["x"]}
    with pytest.raises(BadInput, match=r"Missing column\(s\): a, b\. The model takes: a, b\."):
        signature.take({"z": [9]}, 1)


def test_without_columns_everything_is_taken():
    assert Signature(()).take({"z": [object]}, 1) == {"z": [object]}


def test_an_optional_number_may_be_left_out():
    signature = Signature((Column("a", "double", True), Column("b", "double", False)))
    assert signature.take({"a": [1.0, 2.0]}, 2) == {"a": [1.0, 2.0], "b": [None, None]}


@pytest.mark.parametrize("kind", ["long", "integer", "boolean"])
def test_an_optional_column_of_any_type_may_be_left_out(kind: str):
    Signature((Column("a", "double", True), Column("b", kind, False))).take({"a": [1.0]}, 1)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("integer", 2**40), ("long", 2**63), ("double", 10**400), ("datetime", "the day after tomorrow")],
)
def test_a_value_that_the_type_cannot_hold_is_the_callers_mistake(kind: str, value: Any):
    signature = of(x=kind)
    with pytest.raises(BadInput):
        signature.frame(signature.take({"x": [value]}, 1))


def test_the_frame_has_the_signatures_types():
    signature = of(a="double", b="float", c="long", d="integer", e="boolean", f="string", g="datetime")
    given = {"a": [1, None], "b": [1, 2], "c": [2**60, 1], "d": [1, 2], "e": [True, False], "f": ["x", None]}
    frame = signature.frame({**given, "g": ["2026-11-24T17:00:00", None]})
    kinds = [str(kind) for kind in frame.dtypes]
    assert kinds[:5] == ["float64", "float32", "int64", "int32", "bool"] and kinds[6].startswith("datetime64")
    assert np.isnan(frame["a"][1]) and frame["c"][0] == 2**60 and list(frame.columns) == signature.names


def test_the_matrix_has_a_row_for_each_row_and_nan_for_null():
    matrix = of(a="double", b="long").matrix({"b": [10, 20, 30], "a": [1, None, 3]})
    np.testing.assert_array_equal(matrix, [[1, 10], [np.nan, 20], [3, 30]])


def test_only_signatures_of_numbers_are_numeric():
    assert of(a="double", b="integer").all_numeric
    assert not of(a="double", b="boolean").all_numeric
    assert not Signature(()).all_numeric


def described(*inputs: dict[str, Any]) -> dict[str, Any]:
    return {"signature": {"inputs": json.dumps(inputs)}}


def test_a_signature_is_read_from_the_description():
    found = signatures.parse(
        described({"name": "a", "type": "double"}, {"name": "b", "type": "string", "required": False})
    )
    assert found == Signature((Column("a", "double", True), Column("b", "string", False)))
    assert signatures.parse({}) == signatures.parse({"signature": None}) == Signature(())
    assert signatures.parse({"signature": {"inputs": None}}) == Signature(())


def test_a_tensor_signature_is_kept():
    tensor = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}
    assert signatures.parse(described(tensor)) != Signature(())


def test_a_wide_models_columns_are_listed_in_part():
    wide = Signature(tuple(Column(f"c{number}", "double", True) for number in range(500)))
    with pytest.raises(
        BadInput, match=r"Missing column\(s\): c1, .*c20 and 479 more\. .* c19 and 480 more\."
    ) as error:
        wide.take({"c0": [1.0]}, 1)
    assert len(str(error.value)) < 400


VECTOR = {"items": {"type": "double"}}
THING = {"properties": {"k": {"type": "string"}, "n": {"type": "long", "required": False}}}


@pytest.mark.parametrize(
    ("kind", "nested", "value", "taken"),
    [
        ("array", VECTOR, [1, 2.5], [1.0, 2.5]),
        ("array", {"items": {"type": "array", **VECTOR}}, [[1], []], [[1.0], []]),
        ("object", THING, {"k": "v", "n": None, "more": 1}, {"k": "v", "more": 1}),
        ("map", {"values": {"type": "long"}}, {"a": 1}, {"a": 1}),
        ("binary", {}, "YWI=", b"ab"),
        ("any", {}, {"a": [1, "x"]}, {"a": [1, "x"]}),
    ],
)
def test_nested_values_are_taken(kind: str, nested: dict[str, Any], value: Any, taken: Any):
    assert Column("c", kind, True, nested).values([value]) == [taken]
    assert not Column("c", kind, True, nested).wrong(value)


@pytest.mark.parametrize(
    ("kind", "nested", "value", "says"),
    [
        ("array", VECTOR, [1, "a"], r"at \[1\]: expected a number, found text 'a'"),
        ("array", VECTOR, 3, "expected a list, found number '3'"),
        ("array", VECTOR, None, "expected a list, found nothing"),
        (
            "array",
            {"items": {"type": "object", **THING}},
            [{"k": 1}],
            r"at \[0\]\.k: expected text, found number '1'",
        ),
        ("object", THING, {"n": 1}, "the object lacks k"),
        ("object", THING, [1], "expected an object, found list"),
        ("map", {"values": {"type": "long"}}, {"a": 1.5}, r"at \.a: expected a whole number"),
        ("binary", {}, "ab", "expected bytes in base64, found text 'ab'"),
        ("binary", {}, 3, "expected bytes in base64, found number '3'"),
    ],
)
def test_a_nested_value_of_another_type_is_refused_with_its_place(
    kind: str, nested: dict[str, Any], value: Any, says: str
):
    with pytest.raises(BadCell, match=f"Column 'c', row 0: {says}"):
        Column("c", kind, True, nested).values([value])
    assert Column("c", kind, True, nested).wrong(value)


@pytest.mark.parametrize("text", ["2026-W05-1", "2026-01-31X12:00", "2026-01-31T12:00:00,5"])
def test_a_time_that_only_python_reads_is_refused_with_its_row(text: str):
    with pytest.raises(BadCell, match=f"Column 't', row 1: expected an ISO 8601 time as text, found text '{text}'"):
        of(t="datetime").frame({"t": ["2026-01-31", text]})


@pytest.mark.parametrize("other", ["2026-01-31T12:00:00", "2026-01-31T12:00:00+02:00"])
def test_times_of_several_zones_are_refused(other: str):
    with pytest.raises(BadInput, match=r"Column 't': the times of one request must all be in the same time zone"):
        of(t="datetime").frame({"t": ["2026-01-31T12:00:00Z", other]})


def test_a_tensor_of_text_takes_text_only():
    tensor = Tensor("str", (-1, 1))
    assert tensor.array([["a"]]).tolist() == [["a"]]
    with pytest.raises(BadInput, match=r"at \[1, 0\]: expected text, found number '3'"):
        tensor.array([["a"], [3]])


def test_numbers_too_large_for_single_precision_are_infinite_without_a_warning():
    assert Tensor("float32", (-1,)).array([1e300]).tolist() == [float("inf")]
    assert of(x="float").frame({"x": [1e300]})["x"].tolist() == [float("inf")]
