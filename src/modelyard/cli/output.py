"""How lists and values are printed: a table for people, JSON for programs."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from modelyard.kit.clock import now_ms

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
Column = tuple[str, Callable[[dict[str, Any]], Any]]


def show_json(value: Any) -> None:
    import msgspec  # late: most commands print no JSON

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str | Column], as_json: bool, empty: str = "") -> None:
    """Print rows: as a JSON array, or as aligned columns; a column is a key, or a title and a function of the row."""
    if as_json:
        show_json(list(rows))
        return
    if not rows:
        click.echo(empty or "Nothing yet.")
        return
    from rich.console import Console  # late: `--json` and errors need no table
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    titles = [column if isinstance(column, str) else column[0] for column in columns]
    for title in titles:
        shown.add_column(title.upper().replace("_", " "))
    for row in rows:
        cells = [row.get(column) if isinstance(column, str) else column[1](row) for column in columns]
        shown.add_row(*(_text(cell) for cell in cells))
    wide = None if sys.stdout.isatty() else 200
    Console(highlight=False, width=wide).print(shown)


def _text(cell: Any) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    if isinstance(cell, list):
        return ", ".join(str(item) for item in cell) or "-"
    return str(cell)


def age(ms: int | None) -> str:
    """How long ago: `12 s`, `5 min`, `3 h`, `2 d`; `-` for never."""
    if not ms:
        return "-"
    passed = max(0, now_ms() - ms) / 1000
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if passed >= size:
            return f"{int(passed // size)} {unit}"
    return f"{int(passed)} s"


def moment(ms: int, zone: str) -> str:
    """A time on the wall clock of an IANA zone: `2026-11-29 02:30 CET`; seconds where there are some."""
    from datetime import datetime  # late: few commands print times
    from zoneinfo import ZoneInfo

    when = datetime.fromtimestamp(ms / 1000, ZoneInfo(zone))
    return when.strftime("%Y-%m-%d %H:%M:%S %Z" if when.second else "%Y-%m-%d %H:%M %Z")
