"""CSV bodies into columns: with a header row, or without one in the signature's order."""

import re
from typing import Any

from modelyard.deliver.serving.bodies import lines_of
from modelyard.deliver.serving.columns import check_table
from modelyard.deliver.serving.errors import BadInput, Declined
from modelyard.deliver.serving.signature import Signature

WHOLE = re.compile(r"([+-]?[0-9]+)(\.0*)?")
"""`3.0` too: so pandas writes whole numbers of a column in which one is missing."""
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf(inity)?|nan", re.IGNORECASE)
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def parse(body: bytes, signature: Signature) -> tuple[dict[str, list[Any]], int]:
    """Columns and the number of rows; blank lines are passed over. Raises BadInput."""
    lines = lines_of(body)
    names = signature.names
    if signature.one_tensor is not None and lines:
        lines = lines[1:] if not all(NUMBER.fullmatch(text.strip()) or not text for text in lines[0]) else lines
        names = [str(index) for index in range(len(lines[0]) if lines else 0)]
    elif lines and (not names or set(lines[0]) & set(names)):
        names, lines = lines[0], lines[1:]
    check_table(names, lines, Declined if names is signature.names else BadInput)
    types = {column.name: column.type for column in signature.columns}
    columns = {name: [value(line[index], types.get(name)) for line in lines] for index, name in enumerate(names)}
    return columns, len(lines)


def value(text: str, kind: str | None) -> Any:
    """A value of a column's type from its text; None for nothing, the text itself where it is none of the type."""
    if kind in ("string", "datetime"):
        return text if text or kind == "string" else None
    plain = text.strip()
    if plain == "":
        return None
    if kind == "boolean":
        return BOOLEANS.get(plain.lower(), text)
    if kind in ("long", "integer"):
        found = WHOLE.fullmatch(plain)
        return int(found[1][:400]) if found else text
    return float(plain) if NUMBER.fullmatch(plain) else (plain if kind is None else text)
