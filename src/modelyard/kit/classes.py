"""Classes as text, so that what a model answers and what a file or a person says of it are the same."""

from typing import Any


def class_text(value: Any) -> str:
    """`setosa`, `true`, `2` (of 2 and of 2.0), `0.5`: a class as text, whatever it was sent or stored as."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def class_or_number(text: str) -> float | str:
    """A label of a file without types: true and false are 1 and 0, numbers are numbers, and `007` is a name."""
    plain = text.strip()
    if plain.lower() in ("true", "false"):
        return float(plain.lower() == "true")
    if len(plain) > 1 and plain[0] == "0" and plain[1].isdigit():
        return plain
    try:
        number = float(plain)
    except ValueError:
        return plain
    return number if abs(number) < float("inf") else plain
