"""The page to try a model on: a field for each column, an example, a button, the same as a command."""

import base64
import hashlib
import html
import json
from importlib import resources


def render(
    model: str, version: str, columns: list[tuple[str, str, bool]], example: str, classes: tuple[str, ...] = ()
) -> bytes:
    """The page; `columns` by name, type and whether they are required; `classes` in the order of probabilities."""
    rows = "".join(
        f'<tr><td id="column-{number}">{html.escape(name)}</td>'
        f"<td><small>{html.escape(kind)}{'' if required else ', optional'}</small></td>"
        f'<td><input name="{html.escape(name)}" data-type="{html.escape(kind)}" '
        f'aria-labelledby="column-{number}"></td></tr>'
        for number, (name, kind, required) in enumerate(columns)
    )
    text = _template()
    for name, value in (
        ("{model}", html.escape(model)),
        ("{version}", html.escape(version)),
        ("{rows}", rows),
        ("{example}", html.escape(example)),
        ("{classes}", html.escape(json.dumps(classes))),
    ):
        text = text.replace(name, value)
    return text.encode()


def policy() -> str:
    """The Content-Security-Policy of the page: its own script and style, requests to itself, nothing else."""
    text = _template()
    inline = [text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0] for tag in ("script", "style")]
    script, style = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in inline)
    return (
        f"default-src 'none'; connect-src 'self'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def _template() -> str:
    return (resources.files("modelyard.deliver.serving") / "try.html").read_text()
