"""What a body holds, as JSON or CSV; the gateway reads it too, which has no NumPy."""

import csv
import io
import json
import re
from contextlib import suppress
from typing import Any

import msgspec

from modelyard.deliver.serving.errors import BadInput

NOT_FINITE = re.compile(rb"\b(NaN|Infinity)\b")


def decode_json(body: bytes) -> Any:
    """The JSON in a body, with the `NaN` and `Infinity` that Python's writers put there. Raises BadInput."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        wrong = error
    if NOT_FINITE.search(body):
        with suppress(ValueError, RecursionError):
            return json.loads(body)
    raise BadInput(f"The body is not JSON: {wrong}.")


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises BadInput."""
    value = decode_json(body)
    if not isinstance(value, dict):
        raise BadInput("The body must be a JSON object.")
    return value


def lines_of(body: bytes) -> list[list[str]]:
    """The fields of each line that has any, of a file with any line ends, with or without a mark of its byte order.

    Raises BadInput.
    """
    try:
        return [line for line in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline="")) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"The body is not CSV in UTF-8: {error}.") from None
