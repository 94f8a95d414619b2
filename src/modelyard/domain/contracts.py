"""A data contract: what each column of a table promises. Training, monitoring and CI read the same file."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from modelyard.domain.errors import ConfigError

Kind = Literal["numeric", "categorical", "boolean", "datetime", "text", "embedding"]


OUTPUTS = ("prediction", "label", "probabilities", "prediction.confidence")
"""Columns of a reference window that are no inputs: what the model answers, and the truth."""
SAME: tuple[frozenset[Kind], ...] = (frozenset({"categorical", "text"}), frozenset({"numeric", "boolean"}))
"""Kinds that rows cannot always tell apart."""


class Constraint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one column promises. max_missing: share of rows; categories: every value that is expected.

    unique: no value comes twice. That is looked at where all rows are at hand (a pipeline, CI, a report on tables),
    not in the log of predictions.
    """

    kind: Kind
    max_missing: float = 1.0
    min: float | None = None
    max: float | None = None
    categories: list[str] | None = None
    unique: bool = False


def fits(found: Kind, promised: Kind) -> bool:
    """Whether values of kind `found` keep the promise of a kind."""
    return found == promised or any({found, promised} <= same for same in SAME)


def parse(text: str | bytes, file: str) -> dict[str, Constraint]:
    """The contract of a TOML text, by column. Raises ConfigError that names file and key."""
    try:
        return msgspec.toml.decode(text, type=dict[str, Constraint])
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(f"{file}: {error}.", remedy="Correct that key.") from error


def write(contract: Mapping[str, Constraint]) -> str:
    """A contract as TOML, one table a column, to be kept beside the project file and edited."""
    lines: list[str] = []
    for name, constraint in contract.items():
        lines.append(f"[{_quoted(name)}]")
        for key, value in msgspec.to_builtins(constraint).items():
            lines.append(f"{key} = {_quoted(value)}")
        lines.append("")
    return "\n".join(lines)


def _quoted(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_quoted(item) for item in value) + "]"
    return msgspec.json.encode(value).decode()
