"""What runs read and wrote: datasets, and logged models in and out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from modelyard.build.tracking import runs
from modelyard.store.statements import dialect_of, rows_of
from modelyard.store.tables.tracking import run_inputs
from modelyard.store.tables.tracking import runs as run_rows

DATASET, MODEL_INPUT, MODEL_OUTPUT = "dataset", "model-input", "model-output"
KEY = ["run", "kind", "digest", "name"]


@dataclass(frozen=True)
class Input:
    """A dataset (name, digest) or a logged model (its id, and no digest) that a run used, as the client told it."""

    name: str
    digest: str
    content: dict[str, Any]
    context: str | None = None


@dataclass(frozen=True)
class DatasetUse:
    """A dataset that some run of an experiment read, and for what."""

    experiment_id: int
    name: str
    digest: str
    context: str | None


def dataset(described: Mapping[str, Any]) -> Input:
    """The input of a dataset told as {name, digest, source, columns, rows}, its content in MLflow's shape."""
    columns = [{"name": name, "type": kind, "required": True} for name, kind in described["columns"].items()]
    content = {
        "name": described["name"],
        "digest": described["digest"][:36],
        "source_type": "local",
        "source": msgspec.json.encode({"uri": described["source"]}).decode(),
        "schema": msgspec.json.encode({"mlflow_colspec": columns}).decode(),
        "profile": msgspec.json.encode({"num_rows": described["rows"]}).decode(),
    }
    tags = [{"key": "mlflow.data.context", "value": "training"}]
    return Input(content["name"], content["digest"], {"tags": tags, "dataset": content}, "training")


def add(conn: Connection, run_id: str, kind: str, items: Sequence[Input]) -> None:
    """Note what a run read or wrote, once each: a dataset as it was noted first, a model as it was noted last.

    Raises Invalid for a deleted run.
    """
    number = runs.active(conn, run_id)
    dialect = dialect_of(conn)
    for item in items:
        values = {"run": number, "kind": kind, **item.__dict__}
        statement = dialect.insert(run_inputs).values(values)
        if kind == DATASET:
            conn.execute(statement.on_conflict_do_nothing())
        else:
            fresh = {"content": statement.excluded.content}
            conn.execute(statement.on_conflict_do_update(index_elements=KEY, set_=fresh))


def of_runs(conn: Connection, numbers: Sequence[int]) -> dict[int, dict[str, list[dict[str, Any]]]]:
    """By run number and kind, what was noted; runs without any are left out."""
    found: dict[int, dict[str, list[dict[str, Any]]]] = {}
    if not numbers:
        return found
    among = f"run IN ({','.join(str(int(number)) for number in numbers)}) ORDER BY run, name"
    for run, kind, content in rows_of(conn, f"SELECT run, kind, content FROM run_inputs WHERE {among}"):
        read = msgspec.json.decode(content) if isinstance(content, str) else content  # SQLite's JSON is text
        found.setdefault(run, {}).setdefault(kind, []).append(read)
    return found


def datasets_of(conn: Connection, experiment_ids: Sequence[int], limit: int = 1000) -> list[DatasetUse]:
    """The datasets that runs of these experiments read."""
    columns = (run_rows.c.experiment_id, run_inputs.c.name, run_inputs.c.digest, run_inputs.c.context)
    query = select(*columns).join(run_rows, run_rows.c.num == run_inputs.c.run).distinct()
    query = query.where(run_inputs.c.kind == DATASET, run_rows.c.experiment_id.in_(experiment_ids))
    rows = conn.execute(query.order_by(*columns[:3]).limit(limit))
    return [DatasetUse(*row) for row in rows]
