"""Parquet and Arrow streams in, CSV, Parquet and Arrow streams out; what claims too much is refused unread."""

import io
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.deliver.serving import log_rows, tabular
from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.mlflow_scoring import parse_invocation
from modelyard.deliver.serving.parsed import NamedRows
from modelyard.deliver.serving.prediction_log import Record
from modelyard.deliver.serving.redaction import redact
from modelyard.deliver.serving.signature import Column, Signature

PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"
SIGNATURE = Signature((Column("a", "double", True), Column("n", "long", True), Column("s", "string", True)))
TABLE = pa.table({"a": [1.5, None], "n": pa.array([1, 2], pa.int32()), "s": ["x", "y"], "more": [0, 0]})


def packed(table: Any, media: str) -> bytes:
    out = io.BytesIO()
    if media == PARQUET:
        pq.write_table(table, out)
    else:
        with pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table)
    return out.getvalue()


def read(body: bytes, media: str) -> Any:
    return pq.read_table(io.BytesIO(body)) if media == PARQUET else pa.ipc.open_stream(body).read_all()


@pytest.mark.parametrize("media", [PARQUET, ARROW])
def test_a_table_is_read_as_the_same_rows_in_json_are(media: str) -> None:
    parsed = parse_invocation(packed(TABLE, media), media, SIGNATURE)
    assert (parsed.columns, parsed.rows) == ({"a": [1.5, None], "n": [1, 2], "s": ["x", "y"]}, 2)
    with pytest.raises(BadInput, match=r"Missing column\(s\): s"):
        parse_invocation(packed(TABLE.drop_columns("s"), media), media, SIGNATURE)
    with pytest.raises(BadInput, match=r"Column 'n', row 0: expected a whole number, found number '0\.5'"):
        wrong = TABLE.set_column(1, "n", pa.array([0.5, 1.0]))
        parse_invocation(packed(wrong, media), media, SIGNATURE)
    times = pa.table({"t": pa.array([datetime(2026, 1, 2, 3, 4)], pa.timestamp("us"))})
    assert tabular.parse(packed(times, media), media)[0] == {"t": ["2026-01-02T03:04:00"]}


@pytest.mark.parametrize("media", [PARQUET, ARROW])
@given(data=st.data())
def test_a_damaged_table_is_refused_or_read(media: str, data: st.DataObject) -> None:
    body = bytearray(packed(TABLE, media))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    try:
        parse_invocation(bytes(body[:cut]), media, SIGNATURE)
    except BadInput as error:
        assert error.status in (400, 413)


def test_few_bytes_that_stand_for_many_rows_are_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "MOST_CELLS", 1000)
    monkeypatch.setattr(tabular, "MOST_UNPACKED", 5000)
    many, wide = pa.table({"a": np.zeros(1001)}), pa.table({"a": np.arange(900.0)})
    for table, media in ((many, PARQUET), (many, ARROW), (wide, PARQUET)):
        with pytest.raises(BadInput, match="at most") as refused:
            tabular.parse(packed(table, media), media)
        assert refused.value.status == 413


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("text/csv", "text/csv"),
        ("application/x-parquet", PARQUET),
        (f"text/html, {ARROW};q=0.9, application/json;q=0.5", ARROW),
    ],
)
def test_answers_in_the_format_that_is_asked_for(accept: str, media: str) -> None:
    write = tabular.writer(accept)
    assert write is not None
    answer = write(np.array([[0.25, 0.75], [1.0, 0.0]]))
    assert answer.type == media
    record = Record(
        "i", "", 0, "d", 1, 200, 1, "invocations", "application/json", b"", answer.body, answer_type=media
    )
    table, unread = log_rows.table([record], SIGNATURE)
    assert table.column("prediction").to_pylist() == [0.75, 0.0] and unread == 0
    if media == "text/csv":
        assert answer.body == b"0.25,0.75\n1.0,0.0\n"
        assert write(NamedRows({"low": np.array([1]), "high": np.array([2])})).body.startswith(b"prediction_low,")
    else:
        assert read(answer.body, media).column_names == ["prediction_0", "prediction_1"]


@pytest.mark.parametrize("accept", ["", "*/*", "text/html", "application/json, text/csv", "text/csv;q=0", "nonsense"])
def test_json_is_answered_otherwise(accept: str) -> None:
    assert tabular.writer(accept) is None


@pytest.mark.parametrize("media", [PARQUET, ARROW, "application/x-parquet", "Application/Vnd.Apache.Parquet; x=1"])
def test_redacted_columns_of_a_table_are_never_logged(media: str) -> None:
    assert redact(packed(TABLE, PARQUET), "invocations", media, frozenset({"s"})) == b""
