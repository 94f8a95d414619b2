"""A new project for a table: what its target makes of it, written down so that it runs at once."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from modelyard.build.pipelines import scaffold
from modelyard.domain.errors import Invalid, MissingExtra, NotFound
from modelyard.domain.metrics import PRIMARY

if TYPE_CHECKING:
    import pandas as pd

LEAST_ROWS = 50
CI_ROWS = 5000
TEMPLATE = "plain"


class Started(NamedTuple):
    """A new project: files, task, rows of the table, and what to look at in the columns that the model takes."""

    files: list[Path]
    task: str
    rows: int
    hints: list[dict[str, str]]


def start(folder: Path, data: Path | None, target: str | None) -> Started:
    """Write a project that predicts `target` from a table into `folder`; the table is copied into its `data/`.

    Without a table it is one of scikit-learn's, tumours. Raises Invalid for a target that there is not, or that
    nothing can be learnt of, AlreadyExists before anything is overwritten.
    """
    try:
        from modelyard.build.explore import candidates, profile  # late: heavy

        rows, content, name, target = _table(data, target)
    except ImportError as error:
        raise MissingExtra(error.name or "pandas", "build", "A project for a table") from error
    _check(rows, target, name)
    labels = rows[target].dropna()
    task = profile.task_of(labels)
    taken = candidates.usable(rows, target)
    if not taken:
        raise Invalid(
            f"{name} has no column that a model could use beside {target!r}.",
            remedy="It takes numbers, truths and categories; texts and identifiers need steps of your own.",
        )
    model = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "model"
    fill = {
        "TARGET_COLUMN": target.replace("\\", "\\\\").replace('"', '\\"'),
        "DATA_FILE": f"data/{name}",
        "STRATIFY": "" if task == "regression" else "stratify=TARGET, ",
        "SAMPLE": f"{min(1.0, math.ceil(100 * CI_ROWS / len(rows)) / 100):g}",
        "METRIC": "r2" if task == "regression" else PRIMARY[task],
        "GATE": _gate(task, labels),
        "TASK": task,
        "MODEL": model,
    }
    files = scaffold.write(TEMPLATE, folder, fill, {f"data/{name}": content, "contract.toml": _contract(rows, taken)})
    told = [hint for hint in profile.profile(rows, target)["hints"] if hint["column"] in taken]
    return Started(files, task, len(rows), told)


def _table(data: Path | None, target: str | None) -> "tuple[pd.DataFrame, bytes, str, str]":
    """(rows, content of the file, its name, target)."""
    from modelyard.steps.reading import read  # late: see above

    if data is None:
        if target is not None:
            raise Invalid("--target names a column of --data.", remedy="Give both, or neither for an example.")
        from sklearn.datasets import load_breast_cancer

        example: Any = load_breast_cancer(as_frame=True)
        rows = example.frame
        rows["malignant"] = 1 - rows.pop("target")
        rows.columns = [str(column).replace(" ", "_") for column in rows.columns]
        return rows, rows.to_csv(index=False).encode(), "tumours.csv", "malignant"
    if not data.is_file():
        raise NotFound(f"There is no file {data}.", remedy="Name a CSV, Parquet or JSON lines file.")
    rows = read(str(data))
    if target is None or target not in rows.columns:
        which = "Which column is to be predicted?" if target is None else f"{data} has no column {target!r}."
        raise Invalid(which, remedy=f"Add --target with one of: {', '.join(map(str, list(rows.columns)[:30]))}.")
    return rows, data.read_bytes(), data.name, target


def _check(rows: "pd.DataFrame", target: str, name: str) -> None:
    labels = rows[target].dropna()
    counts = labels.value_counts()
    if len(labels) < LEAST_ROWS:
        raise Invalid(f"{name} has {len(labels)} rows with a target.", remedy=f"Give {LEAST_ROWS} or more.")
    if len(counts) < 2:
        raise Invalid(f"{target!r} holds one value only.", remedy="Name a target that varies.")


def _gate(task: str, labels: "pd.Series") -> str:
    """The gate of the primary metric: better than knowing nothing, and not worse than the champion."""
    if task == "binary":
        return "roc_auc = { min = 0.55, max_regression = 0.01 }"
    if task == "regression":
        return "r2 = { min = 0.0, max_regression = 0.02 }          # 0 is what the mean of all would reach"
    share = float(labels.value_counts(normalize=True).iloc[0])
    return (
        f"accuracy = {{ min = {share:.2f}, max_regression = 0.02 }}    # what always saying the commonest would reach"
    )


def _contract(rows: "pd.DataFrame", taken: Sequence[str]) -> bytes:
    """The contract of the columns that the model takes: callers of the model send no other."""
    from modelyard.domain import contracts  # late: see above
    from modelyard.steps.contracts import suggest_contract

    columns: Any = list(taken)
    return contracts.write(suggest_contract(rows[columns])).encode()
