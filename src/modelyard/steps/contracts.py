"""Holding rows to a data contract: stop and name what breaks it, or go on without those rows."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.build.pipelines.recorder import log_metric
from modelyard.domain.errors import Invalid, NotFound
from modelyard.steps.library import library_step

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from modelyard.domain.contracts import Constraint

MOST_SHOWN = 5


def _with_text(given: dict[str, Any]) -> dict[str, Any]:
    """A contract's file by its text: when that changes, the step runs again."""
    contract = given["contract"]
    if isinstance(contract, str):
        return {**given, "text": _text(contract)}
    return {**given, "text": hashlib.sha256(repr(contract).encode()).hexdigest()}


@library_step(_with_text)
def validate(rows: "pd.DataFrame", contract: Any, text: str = "") -> "pd.DataFrame":
    """The rows, if they keep the contract. Raises Invalid that names the columns, and the rows of each.

    contract: the path of a TOML file (`write_contract` suggests one), constraints by column, or a pandera schema.
    """
    broken = _broken(rows, contract, text)
    if broken:
        told = [f"{check}: {_where(bad)}" if bad is not None else check for check, bad in broken.items()]
        more = f" and {len(told) - MOST_SHOWN} more" if len(told) > MOST_SHOWN else ""
        raise Invalid(
            f"The data breaks the contract: {'; '.join(told[:MOST_SHOWN])}{more}.",
            remedy="Mend the data, change the contract if it is right so, or go on without those rows: "
            "kept, refused = steps.quarantine(rows, contract).",
        )
    return rows


@library_step(_with_text)
def quarantine(rows: "pd.DataFrame", contract: Any, text: str = "") -> "tuple[pd.DataFrame, pd.DataFrame]":
    """(rows that keep the contract, rows that break it with a column `broken` that says how).

    Raises Invalid for what no row is to blame for: a column that is absent, of another kind, or missing too often.
    """
    broken = _broken(rows, contract, text)
    whole = [check for check, bad in broken.items() if bad is None]
    if whole:
        raise Invalid(f"The data breaks the contract: {'; '.join(whole)}.", remedy="Mend the data or the contract.")
    import numpy as np  # late: importing steps must not load it

    refused, why = np.zeros(len(rows), bool), np.full(len(rows), "", dtype=object)
    for check, bad in broken.items():
        assert bad is not None, "checked above"
        refused |= bad
        why[bad] = [f"{held}; {check}" if held else check for held in why[bad]]
    log_metric("quarantined_rows", int(refused.sum()))
    return rows[~refused].reset_index(drop=True), rows[refused].assign(broken=why[refused]).reset_index(drop=True)


def suggest_contract(rows: "pd.DataFrame") -> "dict[str, Constraint]":
    """The contract that a frame keeps itself, with some slack: kinds, missing values, ranges, categories."""
    from modelyard.deliver.monitoring import data_quality  # late: numpy comes with it
    from modelyard.deliver.monitoring.reference import prepare
    from modelyard.deliver.monitoring.tables import open_table

    return data_quality.suggest(prepare(open_table(rows)))


def write_contract(file: str | Path, rows: "pd.DataFrame") -> None:
    """Suggest a contract from a frame and write it as TOML, to be read and edited."""
    from modelyard.domain import contracts  # late: msgspec comes with it
    from modelyard.kit.files import atomic_write

    atomic_write(Path(file), contracts.write(suggest_contract(rows)).encode(), durable=False)


def _text(file: str) -> str:
    try:
        return Path(file).read_text()
    except FileNotFoundError as error:
        raise NotFound(
            f"There is no contract {file!r} in {Path.cwd()}.",
            remedy=f"Suggest one: steps.write_contract({file!r}, steps.read(...))",
        ) from error


def _where(bad: "np.ndarray") -> str:
    places = [str(place) for place in bad.nonzero()[0][:MOST_SHOWN]]
    more = ", ..." if bad.sum() > MOST_SHOWN else ""
    return f"{int(bad.sum())} rows ({', '.join(places)}{more})"


def _broken(rows: "pd.DataFrame", contract: Any, text: str) -> "dict[str, np.ndarray | None]":
    """By broken promise which rows break it, shape (rows,); None where it is the whole column."""
    if isinstance(contract, str):
        from modelyard.domain import contracts  # late: msgspec comes with it

        contract = contracts.parse(text or _text(contract), contract)
    if isinstance(contract, Mapping):
        found: dict[str, np.ndarray | None] = {}
        for name, constraint in contract.items():
            found |= _column(rows, str(name), constraint)
        return found
    return _pandera(rows, contract)


def _column(rows: "pd.DataFrame", name: str, constraint: "Constraint") -> "dict[str, np.ndarray | None]":
    from modelyard.deliver.monitoring.columns import kind_of  # late: numpy comes with it
    from modelyard.domain.contracts import fits

    if name not in rows.columns:
        return {f"column {name!r} is absent": None}
    values = rows[name]
    present = values.notna().to_numpy()
    kind = kind_of(values.to_numpy() if values.dtype.kind in "fiub" else values)
    if present.any() and not fits(kind, constraint.kind):
        return {f"{name!r} is {kind}, not {constraint.kind}": None}
    found: dict[str, np.ndarray | None] = {}
    if (missing := float((~present).mean())) > constraint.max_missing:
        found[f"{name!r} is missing in {missing:.1%} of the rows, at most {constraint.max_missing:.1%}"] = None
    if constraint.categories is not None:
        other = ~values.astype("object").map(_plain).isin(constraint.categories).to_numpy() & present
        if other.any():
            first = str(values[other].iloc[0])
            found[f"{name!r} is none of its {len(constraint.categories)} categories, such as {first!r}"] = other
    if constraint.unique:
        again = values.duplicated().to_numpy() & present
        if again.any():
            found[f"{name!r} repeats, such as {values[again].iloc[0]}"] = again
    for bound, sign in (("min", "<"), ("max", ">")):
        limit: float | None = getattr(constraint, bound)
        if limit is not None:
            beyond = ((values < limit) if bound == "min" else (values > limit)).to_numpy(dtype=bool, na_value=False)
            if beyond.any():
                found[f"{name!r} {sign} {limit:g}"] = beyond
    return found


def _plain(value: Any) -> str:
    """A category as the contract writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pandera(rows: "pd.DataFrame", schema: Any) -> "dict[str, np.ndarray | None]":
    import numpy as np  # late: see above

    if not hasattr(schema, "validate"):
        raise Invalid(
            f"A contract is a file, constraints by column or a pandera schema, not {type(schema).__name__}.",
            remedy='Write steps.validate(rows, "contract.toml").',
        )
    from pandera.errors import SchemaErrors  # late: an extra; the schema comes from it

    numbered = rows.reset_index(drop=True)
    try:
        schema.validate(numbered, lazy=True)
    except SchemaErrors as error:
        found: dict[str, np.ndarray | None] = {}
        cases = error.failure_cases
        cases["column"] = cases["column"].where(cases["column"].notna(), cases["failure_case"])  # of an absent one
        for (column, check), group in cases.groupby(["column", "check"], dropna=False, sort=False):
            places = group["index"]
            bad: np.ndarray | None = None
            if places.notna().all():
                bad = np.zeros(len(rows), bool)
                bad[places.to_numpy(dtype=int)] = True
            found[f"{column!r} breaks {check}"] = bad
        return found
    return {}
