"""Whether a window keeps what the reference promised: schema, missing values, categories, ranges, unique values.

The promises (constraints) are suggested from the reference; a project may keep them in a file and edit them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.deliver.monitoring.columns import as_arrow, kind_of
from modelyard.deliver.monitoring.reference import Reference
from modelyard.deliver.monitoring.sketches import HIGH, LOW, MISSING, ROWS, CategoryLayout, Sketch
from modelyard.deliver.monitoring.tables import Table, by_column, head
from modelyard.domain import contracts
from modelyard.domain.contracts import Constraint, Kind
from modelyard.domain.errors import ConfigError

MISSING_SLACK = 0.05
"""A share of missing values may rise by this much over the reference's."""
LARGELY = 0.15
"""Beyond what is allowed by this share more, a column is largely missing: an alarm, and nothing to train on."""
RANGE_SLACK = 0.1
"""A value may lie beyond the reference's range by this share of it."""
NEW_SHARE = 0.01
OUTSIDE_SHARE = 0.001
LEAST_EXPECTED = 30.0
"""A category has vanished when this many of its rows were expected and none came."""
MOST_LISTED = 50
GRAVE = frozenset({"schema", "type", "largely missing"})
"""Broken promises that alarm even when the constraints were only suggested from the reference."""


@dataclass(frozen=True)
class Finding:
    """One broken promise. column is empty for what holds for the whole table."""

    column: str
    check: str
    message: str


def suggest(reference: Reference) -> dict[str, Constraint]:
    """The constraints that the reference itself keeps, with some slack, by column."""
    found: dict[str, Constraint] = {}
    for name, kind in reference.kinds.items():
        if name not in reference.layout.columns:
            found[name] = Constraint(kind)
            continue
        measures = reference.sketch.measured(name)
        missing = measures[MISSING] / max(measures[ROWS], 1)
        most = round(min(1.0, float(missing) + MISSING_SLACK), 4)
        column = reference.layout.columns[name]
        if isinstance(column, CategoryLayout):
            names = sorted([*column.names, *reference.sketch.new.get(name, {})])
            found[name] = Constraint(kind, most, categories=names if len(names) <= MOST_LISTED else None)
            continue
        low, high = float(measures[LOW]), float(measures[HIGH])
        slack = RANGE_SLACK * (high - low)
        lowest = 0.0 if 0 <= low < slack else low - slack
        found[name] = Constraint(kind, most, _rounded(lowest, math.floor), _rounded(high + slack, math.ceil))
    return found


def _rounded(value: float, towards: Any) -> float:
    """The value to three significant digits, rounded outwards, so that a person likes to read and edit it."""
    if value == 0 or not math.isfinite(value):
        return value
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    return float(f"{towards(value / unit) * unit:.12g}")


def read(file: Path) -> dict[str, Constraint]:
    """The constraints of a TOML file. Raises ConfigError that names file and key."""
    try:
        return contracts.parse(file.read_bytes(), str(file))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{file} does not exist.", remedy="Write it: modelyard monitor constraints MODEL > constraints.toml"
        ) from error


def check(
    reference: Reference, current: Sketch, table: Table, constraints: Mapping[str, Constraint] | None = None
) -> list[Finding]:
    """Every broken promise of a window: `current` is its sketch, `table` the window itself (for types)."""
    findings: list[Finding] = []
    promised = constraints or suggest(reference)
    known = set(table.names)
    held = [name for name in promised if name in known]
    kinds = by_column(table, held, lambda name: _type_changed(table, name, promised[name].kind))
    changes = dict(zip(held, kinds, strict=True))
    for name, constraint in promised.items():
        if name not in changes:
            findings.append(Finding(name, "schema", f"{name} is absent from the live data"))
            continue
        changed = changes[name]
        if changed:
            findings.append(Finding(name, "type", f"{name} is {changed}, not {constraint.kind}"))
            continue
        if name in current.layout.columns:
            findings += _check_column(reference, current, name, constraint)
        if constraint.unique and (share := repeated_share(table, name)):
            findings.append(Finding(name, "repeated", f"{name}: {share:.1%} of the rows repeat an earlier value"))
    return findings


def _type_changed(table: Table, name: str, expected: Kind) -> Kind | None:
    values = head(table, name)
    if values is None or not len(values):
        return None
    found = kind_of(values)
    kept = contracts.fits(found, expected)
    return None if kept or getattr(as_arrow(values), "null_count", 0) == len(values) else found


def _check_column(reference: Reference, current: Sketch, name: str, constraint: Constraint) -> list[Finding]:
    measures = current.measured(name)
    rows = float(measures[ROWS])
    if not rows:
        return []
    findings: list[Finding] = []
    missing = float(measures[MISSING]) / rows
    if missing > constraint.max_missing and missing * rows >= 5:
        message = f"{name}: {missing:.0%} of the values are missing, at most {constraint.max_missing:.0%} is expected"
        grave = missing > constraint.max_missing + LARGELY
        findings.append(Finding(name, "largely missing" if grave else "missing", message))
    if isinstance(current.layout.columns[name], CategoryLayout):
        return findings + _check_categories(reference, current, name, constraint)
    low, high = float(measures[LOW]), float(measures[HIGH])
    if constraint.min is not None and low < constraint.min:
        findings.append(Finding(name, "range", f"{name}: {low:.6g} is below {constraint.min:.6g}"))
    if constraint.max is not None and high > constraint.max:
        findings.append(Finding(name, "range", f"{name}: {high:.6g} is above {constraint.max:.6g}"))
    return findings


def _check_categories(reference: Reference, current: Sketch, name: str, constraint: Constraint) -> list[Finding]:
    findings: list[Finding] = []
    rows = current.known(name)
    known = set(constraint.categories or []) | set(reference.sketch.new.get(name, {}))
    new = {category: count for category, count in current.new.get(name, {}).items() if category not in known}
    share = sum(new.values()) / rows if rows else 0.0
    if share > NEW_SHARE:
        shown = ", ".join(sorted(new, key=lambda category: -new[category])[:3])
        findings.append(Finding(name, "new categories", f"{name}: {share:.1%} of the rows hold new values ({shown})"))
    column = reference.layout.columns[name]
    assert isinstance(column, CategoryLayout), "called for categories"
    expected = reference.sketch.counted(name)[:-1] / max(reference.sketch.known(name), 1) * rows
    gone = (current.counted(name)[:-1] == 0) & (expected >= LEAST_EXPECTED)
    for slot in np.flatnonzero(gone):
        message = f"{name}: no {column.names[slot]} came, about {expected[slot]:.0f} rows were expected"
        findings.append(Finding(name, "vanished category", message))
    return findings


def repeated_share(table: Table, name: str) -> float:
    """The share of rows whose value in a column came before; a missing value is none."""
    if not table.rows:
        return 0.0
    import pyarrow as pa  # late: see columns

    chunks = [as_arrow(chunk) for chunk in table.chunks(name)]
    whole = pa.chunked_array([piece for chunk in chunks for piece in getattr(chunk, "chunks", [chunk])])
    if pa.types.is_dictionary(whole.type):
        whole = whole.cast(whole.type.value_type)
    known = whole.drop_null()
    return (len(known) - len(known.unique())) / table.rows
