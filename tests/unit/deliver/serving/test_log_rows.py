"""What the log makes of answers that are names or probabilities, and of inputs that are vectors."""

import json
from typing import Any

import msgspec

from modelyard.deliver.serving import log_rows, signature
from modelyard.deliver.serving.prediction_log import Record
from modelyard.deliver.serving.signature import Signature

INPUTS = [{"name": "x", "type": "double"}]


def signed(inputs: list[dict[str, Any]], classes: list[Any] | None = None) -> Signature:
    return signature.parse({"signature": {"inputs": json.dumps(inputs)}, "metadata": {"classes": classes}})


def table(held: Signature, columns: dict[str, list[Any]], answers: list[Any]) -> Any:
    asked, answered = (msgspec.json.encode(body) for body in ({"inputs": columns}, {"predictions": answers}))
    record = Record("i", "", 0, "d", 1, 200, 1, "invocations", "application/json", asked, answered)
    return log_rows.table([record], held)[0]


def test_names_stay_names_and_numbers_become_names_beside_them() -> None:
    found = table(signed(INPUTS), {"x": [1.0, 2.0]}, ["setosa", 2.0])
    assert found.column("prediction").to_pylist() == ["setosa", "2"]
    numbers = table(signed(INPUTS), {"x": [1.0, 2.0]}, [1.0, [0.2, 0.8]])
    assert numbers.column("prediction").to_pylist() == [1.0, 0.8]
    both = log_rows.unified([numbers, found])
    assert both[0].column("prediction").to_pylist() == ["1", "0.8"] and both[1] is found


def test_probabilities_of_known_classes_are_the_likeliest_and_how_sure_it_is() -> None:
    held = signed(INPUTS, ["a", "b", 3])
    found = table(held, {"x": [1.0, 2.0]}, [[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])
    assert found.column("prediction").to_pylist() == ["3", "a"]
    assert found.column("prediction.confidence").to_pylist() == [0.7, 0.5]
    assert found.column("probabilities").to_pylist() == [[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]
    assert "probabilities" not in table(signed(INPUTS), {"x": [1.0]}, [[0.1, 0.2, 0.7]]).column_names


def test_vectors_are_logged_as_vectors_and_records_as_text() -> None:
    held = signed([{"name": "e", "type": "array"}, {"name": "r", "type": "object"}])
    found = table(held, {"e": [[1.0, 2.0], [3.0, 4.0]], "r": [{"a": 1}, None]}, [1.0, 2.0])
    assert found.column("input.e").to_pylist() == [[1.0, 2.0], [3.0, 4.0]]
    assert found.column("input.r").to_pylist() == ['{"a":1}', None]
