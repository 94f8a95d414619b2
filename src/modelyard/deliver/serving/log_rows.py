"""From logged requests and answers to typed rows."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from modelyard.deliver.serving import raw_tensors, tabular, typed_rows
from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.mlflow_scoring import parse_invocation
from modelyard.deliver.serving.open_inference import parse_v2
from modelyard.deliver.serving.parsed import Parsed, rows_of
from modelyard.deliver.serving.prediction_log import Record
from modelyard.deliver.serving.signature import Signature
from modelyard.kit.classes import class_text


def table(records: Iterable[Record], signature: Signature) -> tuple[Any, int]:
    """(Arrow table of the answered requests' rows, how many of them this signature could not read).

    Columns: ids, time, version, latency, prediction, and the inputs; redacted inputs are null. Predictions are
    numbers, or text when one of them is; of a classifier with known classes that answers probabilities they are the
    likeliest class, beside `probabilities` and `prediction.confidence` (the likeliest's). Requests, those that failed
    too, are counted in the schema's metadata: see `requests`.
    """
    import pyarrow as pa  # late: only readers need it

    lenient = dataclasses.replace(
        signature, columns=tuple(dataclasses.replace(column, required=False) for column in signature.columns)
    )
    probable = _ProbableClass(signature.classes)
    columns: dict[str, list[Any]] = {name: [] for name in signature.names}
    fixed: dict[str, list[Any]] = {name: [] for name in FIXED}
    unread = 0
    counted: dict[int, Requests] = {}
    for record in records:
        counted.setdefault(record.version, Requests()).note(record.status, record.time)
        if record.status != 200:
            continue
        parsed = _rows(record, lenient, probable)
        if parsed is None:
            unread += 1
            continue
        given, answered = parsed
        for name in signature.names:
            columns[name] += given[name]
        count = len(answered)
        fixed["prediction_id"] += [f"{record.id}:{row}" for row in range(count)]
        fixed["prediction"] += answered
        told = (record.caller_id, record.time, record.deployment, record.version)
        once = (*told, record.latency_us / 1000, record.named)
        for name, value in zip(PER_REQUEST, once, strict=True):
            fixed[name] += [value] * count
    kinds = _kinds()
    named = any(isinstance(value, str) for value in fixed["prediction"])
    if named:
        fixed["prediction"] = [None if value is None else class_text(value) for value in fixed["prediction"]]
    types = FIXED | ({"prediction": "string"} if named else {})
    arrays = {name: pa.array(values, kinds[types[name]]) for name, values in fixed.items()}
    if any(probable.rows):
        arrays[PROBABILITIES] = pa.array(probable.rows, pa.list_(pa.float64()))
        arrays[CONFIDENCE] = pa.array([max(row) if row else None for row in probable.rows], pa.float64())
    for column in signature.columns:
        kind = kinds.get(column.type)
        values = columns[column.name]
        arrays[f"input.{column.name}"] = pa.array(values, kind) if kind is not None else _other(values)
    return pa.table(arrays, metadata={REQUESTS: msgspec.json.encode(counted)}), unread


class _ProbableClass:
    """Names the likeliest class of rows of probabilities; `rows` keeps them, an entry for each answered row."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self._classes = classes if len(classes) > 2 else ()
        self.rows: list[list[float] | None] = []

    def answers(self, rows: list[Any]) -> list[float | str | None]:
        found: list[float | str | None] = []
        for row in rows:
            held = self._probabilities(row)
            self.rows.append(held)
            found.append(self._classes[held.index(max(held))] if held else _answer(row))
        return found

    def _probabilities(self, row: Any) -> list[float] | None:
        values: list[Any] = list(row.values()) if isinstance(row, dict) else row
        if not self._classes or not isinstance(values, list) or len(values) != len(self._classes):
            return None
        return [float(value) for value in values] if all(isinstance(v, int | float) for v in values) else None


def unified(tables: list[Any]) -> list[Any]:
    """Segments' tables whose predictions are of one type: text where any has text."""
    import pyarrow as pa  # late: see above

    if not any(pa.types.is_string(table.schema.field("prediction").type) for table in tables):
        return tables
    found: list[Any] = []
    for table in tables:
        place = table.schema.get_field_index("prediction")
        if not pa.types.is_string(table.schema.field(place).type):
            values = [None if v is None else class_text(v) for v in table.column(place).to_pylist()]
            table = table.set_column(place, "prediction", pa.array(values, pa.string()))
        found.append(table)
    return found


def requests(table: Any) -> dict[int, "Requests"]:
    """The requests of a segment's table by version; empty for one that was written without."""
    held = (table.schema.metadata or {}).get(REQUESTS)
    return msgspec.json.decode(held, type=dict[int, Requests]) if held else {}


class Requests(msgspec.Struct):
    """A version's requests in a segment: all of them, those that failed (status 500 and above), the newest."""

    all: int = 0
    failed: int = 0
    newest: int = 0

    def note(self, status: int, time_ms: int) -> None:
        self.all += 1
        self.failed += status >= 500
        self.newest = max(self.newest, time_ms)


REQUESTS = b"modelyard.requests"
PROBABILITIES, CONFIDENCE = "probabilities", "prediction.confidence"
PER_REQUEST = ("caller_id", "time_ms", "deployment", "version", "latency_ms", "named")
FIXED = {
    "prediction_id": "string",
    "caller_id": "string",
    "time_ms": "long",
    "deployment": "string",
    "version": "long",
    "latency_ms": "double",
    "named": "boolean",
    "prediction": "double",
}


def _kinds() -> dict[str, Any]:
    import pyarrow as pa  # late: see above

    return {
        "double": pa.float64(),
        "float": pa.float32(),
        "long": pa.int64(),
        "integer": pa.int32(),
        "boolean": pa.bool_(),
        "string": pa.string(),
    }


def _other(values: list[Any]) -> Any:
    """A column of a type without a counterpart: vectors of numbers as lists, anything else as text."""
    import pyarrow as pa  # late: see above

    known = [value for value in values if value is not None]
    if known and all(isinstance(value, list) for value in known):
        try:
            return pa.array(values, pa.list_(pa.float64()))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass  # lists of something else: as text
    return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()


def _rows(
    record: Record, signature: Signature, probable: _ProbableClass
) -> tuple[dict[str, list[Any]], list[float | str | None]] | None:
    """(input columns, predictions) of an answered request; None when they do not fit the signature."""
    try:
        parsed = _parsed(record, signature)
        answered = _by_row(_answered(record), parsed)
        given = _columns(parsed, signature, len(answered))
    except (BadInput, msgspec.DecodeError, KeyError, IndexError, TypeError, ValueError):
        return None
    return given, probable.answers(answered)


def _parsed(record: Record, signature: Signature) -> Parsed | None:
    """The request; None when it was left out because columns are redacted."""
    if not record.request:
        return None
    if record.path.endswith("/infer"):
        return parse_v2(record.request, signature, "", "", record.request_json_length)
    if record.path == "predict":
        return typed_rows.parse_typed(record.request, record.content_type, signature)
    return parse_invocation(record.request, record.content_type, signature)


def _columns(parsed: Parsed | None, signature: Signature, rows: int) -> dict[str, list[Any]]:
    if parsed is None:
        return {name: [None] * rows for name in signature.names}
    if parsed.matrix is not None:
        return {name: parsed.matrix[:, index].tolist() for index, name in enumerate(signature.names)}
    return parsed.columns


def _by_row(answer: Any, parsed: Parsed | None) -> list[Any]:
    """An answer for each row. What is no list of rows is that of a single one; of several none has its own."""
    count = rows_of(answer)
    rows = count if parsed is None else parsed.rows
    if rows is None or (rows == 1 and count != 1):
        return [answer]
    if rows != count:
        return [None] * rows
    if isinstance(answer, dict):
        return [dict(zip(answer, row, strict=True)) for row in zip(*answer.values(), strict=True)]
    return answer


def _answered(record: Record) -> Any:
    """What the model said: a list of rows, a dictionary of such by output, or what its answer is."""
    media = record.answer_type.partition(";")[0]
    if media in tabular.WRITTEN:
        return tabular.answered(media, record.answer)
    if not record.path.endswith("/infer"):
        value = msgspec.json.decode(record.answer)
        return [value["prediction"]] if "prediction" in value else value["predictions"]
    head = record.answer[: record.answer_json_length] if record.answer_json_length else record.answer
    raw = memoryview(record.answer)[len(head) :]
    found: dict[str, list[Any]] = {}
    for output in msgspec.json.decode(head)["outputs"]:
        name, shape = output["name"], output["shape"]
        if "data" in output:
            found[name] = np.array(output["data"], dtype=object).reshape(shape).tolist()
        else:
            size = output["parameters"]["binary_data_size"]
            found[name] = raw_tensors.decode(name, output["datatype"], shape, raw[:size], size).tolist()
            raw = raw[size:]
    return found if len(found) > 1 else next(iter(found.values()))


def _answer(row: Any) -> float | str | None:
    """The prediction as one value: the positive class's probability of a pair, the number, or the class itself."""
    if isinstance(row, list):
        return _answer(row[-1]) if row else None
    if isinstance(row, dict):
        return _answer(list(row.values())[-1]) if row else None
    if isinstance(row, str):
        return row
    return float(row) if isinstance(row, int | float) else None
