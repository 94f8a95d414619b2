"""Request bodies into columns and predictions into answers, by protocol."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.deliver.serving import mlflow_scoring, open_inference, typed_rows
from modelyard.deliver.serving.columns import Column, Param
from modelyard.deliver.serving.errors import BadInput, Declined, error_body
from modelyard.deliver.serving.parsed import Parsed
from modelyard.deliver.serving.signature import Signature, Tensor

SIGNATURE = Signature((Column("a", "double", True), Column("n", "long", True), Column("s", "string", True)))
COLUMNS = {"a": [1.5, None], "n": [1, 2], "s": ["x", "y"]}
RECORDS = [{"a": 1.5, "n": 1, "s": "x"}, {"a": None, "n": 2, "s": "y"}]
JSON = "application/json"


def parse(content: Any, media: str = JSON, signature: Signature = SIGNATURE) -> Parsed:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return mlflow_scoring.parse_invocation(body, media, signature)


@pytest.mark.parametrize(
    "content",
    [
        {"dataframe_split": {"columns": ["a", "n", "s"], "data": [[1.5, 1, "x"], [None, 2, "y"]]}},
        {"dataframe_split": {"columns": ["s", "a", "n"], "index": [7, 8], "data": [["x", 1.5, 1], ["y", None, 2]]}},
        {"dataframe_records": RECORDS},
        {"instances": RECORDS},
        {"inputs": RECORDS},
        {"inputs": COLUMNS},
        {"inputs": {**COLUMNS, "more": [0, 0]}},
    ],
)
def test_every_form_of_json_gives_the_same_columns(content: Any):
    parsed = parse(content)
    assert (parsed.columns, parsed.rows) == (COLUMNS, 2)


@pytest.mark.parametrize(
    ("body", "rows"),
    [(b"a,n,s\n1.5,1,x\n,2,y\n", 2), (b"1.5,1,x\n,2,y", 2), (b's,n,a\n"x",1,1.5\r\ny,2,\r\n', 2), (b"a,n,s\n", 0)],
)
@pytest.mark.parametrize("media", ["text/csv", "text/csv; charset=utf-8", "Text/CSV;header=present"])
def test_csv_with_and_without_header(body: bytes, rows: int, media: str):
    parsed = parse(body, media)
    assert parsed.rows == rows
    assert parsed.columns == (COLUMNS if rows else {"a": [], "n": [], "s": []})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ([1], "must be a JSON object"),
        ({}, "exactly one of .* found nothing"),
        ({"rows": []}, "found rows"),
        ({"inputs": [], "instances": []}, "found instances, inputs"),
        ({"dataframe_split": {"columns": ["a"]}}, "list of rows"),
        ({"dataframe_split": {"data": []}}, "needs columns and data"),
        ({"dataframe_split": {"columns": ["a", "n"], "data": [[1, 2], [1]]}}, "Row 1 has 1 values; there are 2"),
        ({"dataframe_records": [{"a": 1}, 3]}, "Row 1: expected an object .* found number '3'"),
        ({"instances": [[1, 2, "x"], "y"]}, "Row 1: expected a list of values, found text 'y'"),
        ({"inputs": 3}, "must be a list of rows"),
        ({"inputs": {"a": [1], "n": [1, 2], "s": ["x"]}}, r"different lengths: \[1, 2\]"),
        ({"inputs": {"a": ["1.5"], "n": [1], "s": ["x"]}}, "Column 'a', row 0: expected a number"),
        ({"inputs": {"a": [1.5], "s": ["x"]}}, r"Missing column\(s\): n"),
    ],
)
def test_a_wrong_body_says_what_is_wrong(content: Any, says: str):
    with pytest.raises(BadInput, match=says) as error:
        parse(content)
    assert error.value.status == 400


@pytest.mark.parametrize(
    ("content", "media", "declined"),
    [
        (b"{", JSON, False),
        ({}, JSON, False),
        ({"dataframe_split": {"columns": ["a", "n"], "data": [[1, 2], [1]]}}, JSON, False),
        ({"inputs": {"a": [1], "n": [1, 2], "s": ["x"]}}, JSON, False),
        (b"a,n,s\n1.5,1\n", "text/csv", False),
        ({"inputs": {"a": [1.5], "n": [1]}}, JSON, True),  # a column that this version needs
        ({"inputs": {"a": [1.5], "n": [1.5], "s": ["x"]}}, JSON, True),  # a stricter type
        ({"instances": [[1.5, 1]]}, JSON, True),  # rows as wide as another version's
        ({"inputs": COLUMNS, "params": {"q": 1}}, JSON, True),
        (b"1.5,1\n", "text/csv", True),
    ],
)
def test_what_another_version_may_take_is_told_apart(content: Any, media: str, declined: bool):
    with pytest.raises(BadInput) as error:
        parse(content, media)
    assert isinstance(error.value, Declined) is declined


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"a,n,s\n1.5,1\n", "Row 0 has 2 values; there are 3 columns"),
        (b"a,n,s\nno,1,x\n", "Column 'a', row 0: expected a number, found text 'no'"),
        (b"a,n,s\n1,1.5,x\n", "Column 'n', row 0: expected a whole number, found text '1.5'"),
        (b"a,n,s\n\xff,1,x\n", "not CSV in UTF-8"),
        (b'a,n,s\n"' + b"x" * 200_000 + b'",1,x\n', "not CSV"),
    ],
)
def test_wrong_csv_says_what_is_wrong(body: bytes, says: str):
    with pytest.raises(BadInput, match=says):
        parse(body, "text/csv")


def test_blank_lines_of_csv_are_passed_over():
    assert parse(b"a,n,s\n1.5,1,x\n\n", "text/csv").rows == 1


@pytest.mark.parametrize(("kind", "text"), [("double", b"1_000"), ("long", b"1_000"), ("boolean", b"maybe")])
def test_csv_numbers_and_booleans_are_read_strictly(kind: str, text: bytes):
    with pytest.raises(BadInput):
        parse(b"x\n" + text + b"\n", "text/csv", Signature((Column("x", kind, True),)))


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-orc", "application/json; charset=latin-1", "text/csv; header=absent"]
)
def test_other_content_types_are_415(media: str):
    with pytest.raises(BadInput) as error:
        parse(b"{}", media)
    assert error.value.status == 415


@pytest.mark.parametrize("media", ["", JSON, "application/json; charset=utf-8", 'APPLICATION/JSON;charset="UTF-8"'])
def test_json_is_what_is_sent_by_default(media: str):
    assert parse({"inputs": COLUMNS}, media).rows == 2


@pytest.mark.parametrize("content", [{"instances": []}, {"inputs": {"a": [], "n": [], "s": []}}, {"inputs": []}])
def test_an_empty_batch_is_no_mistake(content: Any):
    assert parse(content).rows == 0


@pytest.mark.parametrize("media", ["text/csv; charset=utf-8; header=present", "text/csv;header=present;"])
def test_several_parameters_of_a_content_type(media: str):
    assert parse(b"a,n,s\n1.5,1,x\n", media).rows == 1


@pytest.mark.parametrize("body", [b"\xef\xbb\xbfa,n,s\n1.5,1,x\n", b"a,n,s\r1.5,1,x\r", b"a,n,s\r\n1.5,1,x\r\n"])
def test_csv_as_spreadsheets_write_it(body: bytes):
    assert parse(body, "text/csv").columns == {"a": [1.5], "n": [1], "s": ["x"]}


def test_numbers_that_are_none_are_read_as_pythons_clients_write_them():
    parsed = parse(b'{"inputs": {"a": [NaN, -Infinity], "n": [1, 2], "s": ["NaN", NaN]}}')
    assert math.isnan(parsed.columns["a"][0]) and parsed.columns["a"][1] == -math.inf
    assert parsed.columns["s"] == ["NaN", None]  # pandas' missing text
    with pytest.raises(BadInput, match=r"Column 'n', row 0: expected a whole number, found number 'nan'"):
        parse(b'{"inputs": {"a": [1.5], "n": [NaN], "s": ["x"]}}')
    with pytest.raises(BadInput, match="not JSON"):
        parse(b'{"inputs": {"a": [NaN')


@pytest.mark.parametrize(
    "content",
    [
        {"dataframe_split": {"columns": [*map(str, range(200_000)), "0"], "data": []}},
        {"dataframe_records": [{str(row): 1} for row in range(100_000)]},
    ],
)
def test_wide_bodies_take_no_longer_than_they_are(content: Any):
    with pytest.raises(BadInput):
        parse(content)


def test_rows_of_many_different_columns_are_refused_where_nothing_says_which_count():
    with pytest.raises(BadInput, match="10000 rows of 10000 different columns") as error:
        parse({"dataframe_records": [{str(row): 1} for row in range(10_000)]}, signature=Signature(()))
    assert error.value.status == 413


@pytest.mark.parametrize("content", [{"dataframe_records": [{}]}, {"dataframe_split": {"columns": [], "data": [[]]}}])
def test_a_row_of_nothing_is_no_row(content: Any):
    with pytest.raises(BadInput, match="Row 0 has no columns"):
        parse(content, signature=Signature(()))


def test_many_columns_are_named_in_part():
    with pytest.raises(BadInput, match=r"there are 5000 columns: 0, 1, .* and 4980 more") as error:
        parse({"dataframe_split": {"columns": [str(column) for column in range(5000)], "data": [[1]]}})
    assert len(str(error.value)) < 300
    assert len(error_body("invocations", 400, "x" * 5000)) < 1100


PARAMS = replace(SIGNATURE, params=(Param("times", "long"), Param("word", "string"), Param("many", "double", True)))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"times": "x"}, "Parameter 'times': expected a whole number, found text 'x'"),
        ({"times": 2**70}, "Parameter 'times': 1180591620717411303424 is out of range for long"),
        ({"times": True}, "found boolean"),
        ({"word": 3}, "Parameter 'word': expected text"),
        ({"many": 3}, "Parameter 'many': expected a list, found number '3'"),
        ({"many": [1, "a"]}, "Parameter 'many': expected a number, found text 'a'"),
        ({"other": 1}, "no parameter 'other'. Its parameters: times, word, many"),
    ],
)
def test_a_parameter_of_another_type_is_refused(given: dict[str, Any], says: str):
    with pytest.raises(BadInput, match=says):
        parse({"inputs": RECORDS, "params": given}, signature=PARAMS)


def test_parameters_of_their_types_are_taken_and_null_is_the_default():
    parsed = parse({"inputs": RECORDS, "params": {"times": 2, "word": None, "many": [1]}}, signature=PARAMS)
    assert parsed.params == {"times": 2, "many": [1]}


def test_rows_that_are_single_values():
    texts = Signature((), item=Column("", "string", True))
    assert parse({"inputs": ["a", "b"]}, signature=texts).matrix == ["a", "b"]
    assert v2(tensor("any", [2], "BYTES", ["a", "b"]), signature=texts).matrix == ["a", "b"]
    assert typed_rows.parse_typed(b'"a"', JSON, texts).rows == 1
    with pytest.raises(BadInput, match="Row 1: expected text, found number '3'"):
        parse({"instances": ["a", 3]}, signature=texts)


def test_json_that_is_said_to_be_longer_than_the_body_is_refused():
    with pytest.raises(BadInput, match="Inference-Header-Content-Length is 99; the body has 2 bytes"):
        open_inference.parse_v2(b"{}", SIGNATURE, "m", "1", 99)


def test_data_nested_deeper_than_its_tensor_is_refused_soon():
    deep: Any = 1.0
    for _ in range(500):
        deep = [deep]
    with pytest.raises(BadInput, match=r"fill the shape|expected FP64, found list"):
        v2(tensor("a", [300_001], "FP64", [deep, *[1.0] * 300_000]))
    with pytest.raises(BadInput, match="is no shape"):
        v2(tensor("a", [10**18] * 100_000, "FP64", [1.0]))


def test_an_empty_list_of_records_is_no_mistake_either():
    assert parse({"dataframe_records": []}).rows == 0


def test_a_column_given_twice_is_refused():
    with pytest.raises(BadInput):
        parse({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, JSON, Signature(SIGNATURE.columns[:1]))


def test_a_record_that_lacks_a_required_field_is_refused():
    signature = Signature((Column("a", "double", True), Column("b", "double", True)))
    with pytest.raises(BadInput):
        parse({"dataframe_records": [{"a": 1, "b": 2}, {"a": 1}]}, JSON, signature)


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_a_model_without_named_columns_takes_plain_rows(key: str):
    assert parse({key: [[1, 2], [3, 4]]}, JSON, Signature(())).rows == 2


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(mlflow_scoring.KEYS), JSON_VALUES)
def test_no_body_does_anything_but_parse_or_be_refused(key: str, content: Any):
    try:
        parsed = parse({key: content})
    except BadInput as error:
        json.dumps(str(error))
    else:
        assert all(len(values) == parsed.rows for values in parsed.columns.values())


@given(st.dictionaries(st.sampled_from(["inputs", "id", "parameters"]), JSON_VALUES) | JSON_VALUES)
def test_no_v2_body_does_anything_but_parse_or_be_refused(content: Any):
    try:
        open_inference.parse_v2(json.dumps(content).encode(), SIGNATURE, "m", "1")
    except BadInput as error:
        json.dumps(str(error))


@given(
    JSON_VALUES.filter(lambda shape: not isinstance(shape, list) or bool not in map(type, shape)),
    JSON_VALUES,
    JSON_VALUES,
)
def test_no_tensor_does_anything_but_parse_or_be_refused(shape: Any, datatype: Any, data: Any):
    tensor = {"name": "a", "shape": shape, "datatype": datatype, "data": data}
    try:
        open_inference.parse_v2(json.dumps({"inputs": [tensor]}).encode(), Signature(SIGNATURE.columns[:1]), "m", "1")
    except BadInput as error:
        json.dumps(str(error))


def v2(*tensors: dict[str, Any], signature: Signature = SIGNATURE, **more: Any) -> Parsed:
    body = json.dumps({"inputs": tensors, **more}).encode()
    return open_inference.parse_v2(body, signature, "m", "3")


def tensor(name: str, shape: list[int], datatype: str, data: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_a_tensor_for_each_column(shape: list[int]):
    parsed = v2(
        tensor("a", shape, "FP64", [1.5, 2.5]),
        tensor("n", shape, "INT64", [1, 2]),
        tensor("s", shape, "BYTES", ["x", "y"]),
    )
    assert parsed.rows == 2 and parsed.columns == {"a": [1.5, 2.5], "n": [1, 2], "s": ["x", "y"]}


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_one_tensor_for_all_columns_flat_or_nested(data: Any):
    signature = Signature((Column("a", "double", True), Column("b", "double", True)))
    parsed = v2(tensor("input", [2, 2], "FP64", data), signature=signature)
    assert parsed.rows == 2 and parsed.columns == {"a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ([], "must be a list of tensors"),
        ([tensor("a", [3], "FP64", [1])], "does not fill the shape"),
        ([{"name": "a", "data": [1]}], "needs a shape and data"),
        ([{"name": "a", "shape": [1]}], "needs a shape and data"),
        ([tensor("a", [-1], "FP64", [1])], r"Tensor 'a': \[-1\] is no shape"),
        ([tensor("a", [2**62, 4, 0], "FP64", [])], "is no shape"),
        ([tensor("a", [1] * 33, "FP64", [1])], "is no shape"),
        ([tensor("a", [1], "FP64", [10**400])], "Tensor 'a', value 0: expected FP64, found number '1000"),
        ([tensor("a", [1], "FP64", [1])], r"Missing column\(s\): n, s"),
        ([tensor("a", [1, 1], "FP64", [1])], r"Missing column\(s\): n, s"),
        ([tensor("input", [1, 2], "FP64", [1, 2])], r"has shape \[1, 2\]; expected \[rows, 3\]"),
        ([tensor("a", [1], "FP64", [1]), tensor("n", [2], "INT64", [1, 2])], "different numbers of rows"),
        ([tensor("a", [1, 2], "FP64", [1, 2]), tensor("n", [1], "INT64", [1])], "expected .rows. or .rows, 1."),
        ([tensor("a", [1], "FP64", [1]), tensor("n", [1], "INT64", [1])], r"Missing column\(s\): s"),
    ],
)
def test_a_wrong_tensor_says_what_is_wrong(tensors: list[dict[str, Any]], says: str):
    with pytest.raises(BadInput, match=says):
        v2(*tensors)


@pytest.mark.parametrize(("datatype", "data"), [("INT64", [1.5]), ("FP64", ["x"]), ("UINT8", [256]), ("FP99", [1])])
def test_data_must_be_of_the_tensors_datatype(datatype: str, data: list[Any]):
    with pytest.raises(BadInput):
        v2(tensor("x", [1], datatype, data), tensor("y", [1], "INT64", [1]), signature=Signature(()))


@pytest.mark.parametrize(
    ("predictions", "datatype", "shape", "data"),
    [
        (np.array([[0.1, 0.9]]), "FP64", [1, 2], [0.1, 0.9]),
        (np.array([1, 2]), "INT64", [2], [1, 2]),
        (np.array([1.5], np.float32), "FP32", [1], [1.5]),
        (np.array([True]), "BOOL", [1], [True]),
        (np.array(["late", "on time"]), "BYTES", [2], ["late", "on time"]),
        ([], "FP64", [0], []),
    ],
)
def test_v2_answers(predictions: Any, datatype: str, shape: list[int], data: list[Any]):
    parsed = v2(tensor("a", [1], "FP64", [1]), signature=Signature(SIGNATURE.columns[:1]), id="mine")
    answer = json.loads(parsed.answer(predictions).body)
    output = {"name": "predict", "shape": shape, "datatype": datatype, "data": data}
    assert answer == {"model_name": "m", "model_version": "3", "id": "mine", "outputs": [output]}


def test_an_id_that_was_not_given_is_not_answered():
    parsed = v2(tensor("a", [1], "FP64", [1]), signature=Signature(SIGNATURE.columns[:1]))
    assert "id" not in json.loads(parsed.answer(np.array([1.0])).body)


def test_an_answer_that_json_cannot_hold_says_its_type():
    with pytest.raises(TypeError, match="the model answered a complex"):
        mlflow_scoring.answer_mlflow([1j])


def test_one_row_of_several_outputs():
    parsed = typed_rows.parse_typed(b'{"x": [1, 2]}', JSON, Signature((), (Tensor("float32", (-1, 2), "x"),)))
    answered = parsed.answer({"total": np.array([[3.0]]), "double": np.array([[2.0, 4.0]])})
    assert json.loads(answered.body) == {"prediction": {"total": [3.0], "double": [2.0, 4.0]}}


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        (np.array([[0.25, 0.75]]), [[0.25, 0.75]]),
        (np.array([1, 0]), [1, 0]),
        (np.array(["a"]), ["a"]),
        (np.array([math.nan, math.inf]), [None, None]),
        ([1.5], [1.5]),
        (pd.Series([1, 2]), [1, 2]),
        (pd.DataFrame({"p": [0.5], "q": ["x"]}), [{"p": 0.5, "q": "x"}]),
        (np.empty((0, 2)), []),
        ([np.int64(3), np.float32(0.5), np.bool_(True)], [3, 0.5, True]),
        (np.array([np.int64(3), None], dtype=object), [3, None]),
        ([{"a": np.float64(1), "b": np.array([1, 2])}], [{"a": 1.0, "b": [1, 2]}]),
        (
            pd.DataFrame({"t": [pd.Timestamp("2026-01-31T12:00"), pd.NaT]}),
            [{"t": "2026-01-31T12:00:00"}, {"t": None}],
        ),
        (pd.DataFrame({"n": pd.array([1, None], dtype="Int64")}), [{"n": 1}, {"n": None}]),
    ],
)
def test_mlflow_answers(predictions: Any, expected: Any):
    assert json.loads(mlflow_scoring.answer_mlflow(predictions).body) == {"predictions": expected}


def test_metadata_lists_inputs_by_name_and_type():
    described = json.loads(open_inference.describe_v2("m", "3", SIGNATURE))
    assert (described["name"], described["versions"]) == ("m", ["3"])
    found = [(item["name"], item["datatype"], item["shape"]) for item in described["inputs"]]
    assert found == [("a", "FP64", [-1]), ("n", "INT64", [-1]), ("s", "BYTES", [-1])]


NAMED = '[{"name": "late", "type": "double"}]'
PAIR = '[{"name": "on time", "type": "double"}, {"name": "late", "type": "double"}]'


@pytest.mark.parametrize(
    ("outputs", "predictions", "asked", "names"),
    [
        ("[]", np.array([1.0]), [], ["predict"]),
        ("[]", np.array([1.0]), ["predict"], ["predict"]),
        (NAMED, np.array([1.0]), [], ["late"]),
        (NAMED, np.array([1.0]), ["late"], ["late"]),
        (NAMED, np.array([1.0]), ["predict"], ["predict"]),  # what it is called where it has no name
        (PAIR, np.array([[0.25, 0.75]]), [], ["on time", "late"]),
        (PAIR, np.array([[0.25, 0.75]]), ["late"], ["late"]),
        ("[]", pd.DataFrame({"a": [1], "b": [2]}), ["b", "a"], ["a", "b"]),
        ("[]", {"a": np.array([1]), "b": np.array([2])}, ["b"], ["b"]),
        (PAIR, [], ["late"], ["late"]),
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_outputs_are_chosen_by_the_names_that_the_metadata_has(
    outputs: str, predictions: Any, asked: list[str], names: list[str], raw: bool
):
    signature = replace(SIGNATURE, columns=SIGNATURE.columns[:1], outputs=tuple(json.loads(outputs)))
    wanted = [{"name": name, "parameters": {"binary_data": raw}} for name in asked]
    parsed = v2(tensor("a", [1], "FP64", [1]), signature=signature, outputs=wanted)
    answer = parsed.answer(predictions)
    found = json.loads(answer.body[: answer.json_length])["outputs"]
    assert [output["name"] for output in found] == names
    assert [("data" in output) for output in found] == [not (raw and asked)] * len(names)


@pytest.mark.parametrize("asked", ["nothing", [1], [{}], [{"name": 3}]])
def test_outputs_that_are_no_names_are_refused(asked: Any):
    with pytest.raises(BadInput, match="a list of objects, each with a name"):
        v2(tensor("a", [1], "FP64", [1]), signature=replace(SIGNATURE, columns=SIGNATURE.columns[:1]), outputs=asked)


def test_an_output_that_is_not_there_is_refused():
    signature = replace(SIGNATURE, columns=SIGNATURE.columns[:1])
    parsed = v2(tensor("a", [1], "FP64", [1]), signature=signature, outputs=[{"name": "a"}, {"name": "c"}])
    with pytest.raises(Declined, match="no output 'c'; its outputs: a, b"):
        parsed.answer({"a": np.array([1]), "b": np.array([2])})
