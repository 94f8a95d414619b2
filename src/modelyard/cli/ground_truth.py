"""`modelyard ground-truth`: labels of earlier predictions, from a file."""

import csv
import math
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import msgspec

from modelyard.cli.context import client
from modelyard.cli.output import show_json
from modelyard.cli.rollback import split_endpoint
from modelyard.client.api import path
from modelyard.domain.errors import Invalid, ModelyardError
from modelyard.kit.classes import class_or_number

AT_ONCE = 10_000


@click.command("ground-truth")
@click.argument("endpoint", metavar="ENVIRONMENT/ENDPOINT")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--id", "id_column", default="id", show_default=True, help="The column with the prediction's id.")
@click.option("--label", "label_column", default="label", show_default=True, help="The column with the truth.")
@click.option("--group", "group_column", help="The column with a ranking's query or a forecast's series.")
def ground_truth(endpoint: str, file: Path, id_column: str, label_column: str, group_column: str | None) -> None:
    """Send labels from a CSV, JSON Lines or Parquet FILE; late, repeated and out of order are welcome.

    An id is the answer's X-Prediction-Id, or the X-Request-Id that the caller gave, with `:ROW` for a request of
    several rows. A label is a number, true or false, or the name of a class.
    """
    environment, name = split_endpoint(endpoint)
    where = path("environments", environment, "endpoints", name) + "/ground-truth"
    names = {"id": id_column, "label": label_column} | ({"group": group_column} if group_column else {})
    labels = [_label(row, number, names) for number, row in enumerate(_rows(file), start=1)]
    if not labels:
        raise Invalid(f"{file} holds no rows.", remedy=f"It needs the columns {id_column} and {label_column}.")
    sent, came = 0, None
    for start in range(0, len(labels), AT_ONCE):
        taken = client().call("POST", where, body={"labels": labels[start : start + AT_ONCE]})
        sent, came = sent + taken["labels"], came or taken.get("came")
        if sys.stderr.isatty():
            click.echo(f"\r{sent} of {len(labels)}", err=True, nl=sent == len(labels))
    show_json({"labels": sent})
    _warn(where, came)


def _warn(where: str, came: int | None) -> None:
    """Say what is odd about the labels; they are kept whatever it is."""
    try:
        told = client().call("GET", where, query={"since": came}) if came is not None else {}
    except ModelyardError as error:
        click.echo(f"Whether they match predictions could not be looked up: {error}", err=True)
        return
    if told.get("unmatched"):
        which = ", ".join(told["ids"]) + (", ..." if told["unmatched"] > len(told["ids"]) else "")
        click.echo(
            f"{told['unmatched']} of {told['labels']} match no prediction in the log: {which}. "
            "They are kept, and join predictions that are logged later.",
            err=True,
        )
    if told.get("strange"):
        click.echo(
            f"Neither the model nor earlier labels ever said {', '.join(map(repr, told['strange']))}: "
            "correct them by sending other labels for the same ids, unless they are new classes.",
            err=True,
        )


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix == ".parquet":
        import pyarrow as pa  # late: only this format needs it
        import pyarrow.parquet as pq

        try:
            for batch in pq.ParquetFile(file).iter_batches():
                yield from batch.to_pylist()
        except pa.ArrowInvalid as error:
            raise Invalid(f"{file} is not Parquet: {str(error).rstrip('.')}.", remedy="Write it again.") from error
    elif file.suffix in (".jsonl", ".ndjson", ".json"):
        with file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield _object(line, file, number)
    else:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            yield from _lines(csv.DictReader(stream), file)


def _lines(rows: "csv.DictReader[str]", file: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from rows
    except (csv.Error, UnicodeDecodeError) as error:
        raise Invalid(f"{file} is not CSV in UTF-8: {error}.", remedy="Save it as such, or as Parquet.") from error


def _object(line: bytes, file: Path, number: int) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{file}, line {number} is no JSON object: {error}.", remedy="One object a line.") from error


def _label(row: dict[str, Any], number: int, names: dict[str, str]) -> dict[str, Any]:
    """A row's label as it is sent. names: by field its column. Raises Invalid for a row without one of them."""
    for field, column in names.items():
        if row.get(column) in (None, ""):
            if column in row:
                raise Invalid(
                    f"Row {number}: {column!r} is empty.", remedy="Leave out rows whose truth is not known."
                )
            found = ", ".join(map(str, row)) or "none"
            raise Invalid(
                f"Row {number} has no {column!r}; its columns: {found}.", remedy=f"Name the column with --{field}."
            )
    value = row[names["label"]]
    if isinstance(value, str):
        value = class_or_number(value)
    elif isinstance(value, Decimal):
        value = float(value)
    if not isinstance(value, bool | int | float | str) or value != value or value in (math.inf, -math.inf):
        raise Invalid(
            f"Row {number}: the label must be a number, true or false, or a class; found {str(value)[:40]!r}.",
            remedy="Leave out rows whose truth is not known.",
        )
    sent = {"id": str(row[names["id"]]), "label": value}
    return sent | ({"group": str(row[names["group"]])} if "group" in names else {})
