"""JSON bodies: decoded at the door to a type, or refused with what is wrong."""

from typing import Any

import msgspec

from modelyard.domain.errors import Invalid

BAD_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


def decoded(data: bytes, type: Any) -> Any:
    """The JSON of a body; its text, where `type` is bytes. Raises Invalid."""
    if type is bytes:
        return data or b"{}"
    try:
        return msgspec.json.decode(data or b"{}", type=type)
    except BAD_JSON as error:
        raise Invalid(f"The body is not what this call takes: {error}.") from error
