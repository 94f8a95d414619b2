"""A page of the docs whose table is written by the command that measured it."""

from pathlib import Path

BEGIN, END = "<!-- table -->", "<!-- end of table -->"


def write(file: Path, text: str) -> None:
    """Put the table between the marks of a page."""
    page = file.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    file.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")
