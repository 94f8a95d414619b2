"""`modelyard.compare_data`: two tables compared, for a notebook, CI or a monitor; a report in three formats."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modelyard.deliver.monitoring import data_quality, drift
from modelyard.deliver.monitoring.data_quality import Finding
from modelyard.deliver.monitoring.drift import ColumnDrift
from modelyard.deliver.monitoring.reference import Reference, prepare, prepare_with_windows, sketch_table
from modelyard.deliver.monitoring.sketches import Sketch
from modelyard.deliver.monitoring.tables import open_table
from modelyard.domain.contracts import Constraint
from modelyard.domain.errors import Invalid
from modelyard.kit.files import atomic_write

COLUMNS_SHARE = 0.3


@dataclass(frozen=True)
class Comparison:
    """What `compare_data` found. `passed` is what a gate asks for; `save` writes HTML, JSON or JUnit by suffix."""

    reference_rows: int
    current_rows: int
    columns: list[ColumnDrift]
    findings: list[Finding]
    columns_share: float
    table_rate: float
    windows: int
    joint: dict[str, Any] | None = None
    declared: bool = False
    """Whether the constraints were given; of suggested ones only the gravely broken fail a comparison."""
    reference: Reference | None = field(default=None, repr=False, compare=False)
    sketch: Sketch | None = field(default=None, repr=False, compare=False)
    labelled: dict[str, Any] | None = None
    """Of a live model: what its newest window with labels showed, as a monitor records it."""

    @property
    def drifted(self) -> list[str]:
        return [column.name for column in self.columns if column.drifted]

    @property
    def share(self) -> float:
        """The share of the columns that drifted, weighted by importance where it is known."""
        return drift.weighted_share(self.columns)

    @property
    def calibrated(self) -> bool:
        return bool(self.columns) and all(column.calibrated for column in self.columns)

    @property
    def failures(self) -> list[Finding]:
        """The findings that fail the comparison; the others are shown as warnings."""
        return [item for item in self.findings if self.declared or item.check in data_quality.GRAVE]

    @property
    def passed(self) -> bool:
        return not self.failures and not (self.drifted and self.share >= self.columns_share)

    @property
    def verdict(self) -> str:
        said = f"{len(self.drifted)} of {len(self.columns)} columns drifted"
        return f"{said}, {len(self.findings)} data quality findings" if self.findings else said

    def as_json(self) -> dict[str, Any]:
        """Plain data, everything that the report shows."""
        return {
            "passed": self.passed,
            "verdict": self.verdict,
            "rows": {"reference": self.reference_rows, "current": self.current_rows},
            "drifted": self.drifted,
            "share": self.share,
            "columns_share": self.columns_share,
            "calibrated": self.calibrated,
            "false_alarm_rate": self.table_rate,
            "reference_windows": self.windows,
            "columns": drift.as_rows(self.columns),
            "data_quality": [asdict(finding) for finding in self.findings],
            "joint": self.joint,
            "labelled": self.labelled,
        }

    def html(self) -> str:
        from modelyard.deliver.monitoring import reports  # late: a comparison in CI may need no page

        return reports.html(self)

    def junit(self) -> str:
        from modelyard.deliver.monitoring import reports  # late: see html

        return reports.junit(self)

    def save(self, target: str | Path) -> Path:
        """Write the report; .html, .json or .xml (JUnit) by the suffix. Raises Invalid for another one."""
        import msgspec

        path = Path(target)
        if path.suffix == ".json":
            content = msgspec.json.format(msgspec.json.encode(self.as_json()), indent=1)
        elif path.suffix in (".html", ".xml"):
            content = (self.html() if path.suffix == ".html" else self.junit()).encode()
        else:
            raise Invalid(f"{path.name} is no kind of report.", remedy="End it with .html, .json or .xml (JUnit).")
        atomic_write(path, content)
        return path

    def _repr_html_(self) -> str:
        return self.html()


def compare_data(
    reference: Any,
    current: Any,
    *,
    columns_share: float = COLUMNS_SHARE,
    ignore: Sequence[str] = (),
    constraints: Mapping[str, Constraint] | None = None,
    importance: Mapping[str, float] | None = None,
    joint: bool = False,
) -> Comparison:
    """What changed between two tables: drift by column, and broken promises of the reference.

    reference, current: pandas or polars frames, Arrow tables, DuckDB relations, mappings of arrays, or Parquet paths;
    the reference's rows in the order of time. Where the reference holds 30 windows as long as `current`, thresholds
    are learnt from them; otherwise an effect of 0.05 and significance decide, and the report says "uncalibrated".
    columns_share: the comparison fails when at least this share of the columns drifted. importance: how much the
    model uses a column, by name. joint: train a classifier to tell the two apart as well (needs scikit-learn).
    """
    before, after = open_table(reference), open_table(current)
    if not before.rows or not after.rows:
        empty = "reference" if not before.rows else "current table"
        raise Invalid(f"The {empty} has no rows.", remedy="Pass rows to compare.")
    windowed = before.rows >= after.rows * 30
    prepared = prepare_with_windows(before, after.rows, ignore) if windowed else prepare(before, ignore)
    prepared.importance.update(importance or {})
    return compare_prepared(prepared, after, before.rows, columns_share, constraints, before if joint else None)


def compare_prepared(
    reference: Reference,
    current: Any,
    reference_rows: int,
    columns_share: float = COLUMNS_SHARE,
    constraints: Mapping[str, Constraint] | None = None,
    joint_with: Any = None,
) -> Comparison:
    """A table against a reference that was prepared before; `joint_with` is the reference's table itself."""
    table = open_table(current)
    sketch = sketch_table(reference, table)
    columns = drift.compare(reference, sketch, reference.thresholds)
    learnt = reference.thresholds if columns and columns[0].calibrated else None
    joint = None
    if joint_with is not None:
        from modelyard.deliver.monitoring import joint as joints  # late: scikit-learn comes with it

        joint = joints.tell_apart(reference, joint_with, table)
    return Comparison(
        reference_rows,
        table.rows,
        columns,
        data_quality.check(reference, sketch, table, constraints),
        columns_share,
        learnt.table_rate if learnt else drift.SIGNIFICANCE,
        learnt.windows if learnt else 0,
        joint,
        constraints is not None,
        reference,
        sketch,
    )
