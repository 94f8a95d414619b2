"""Write the reference pages that follow from the code: commands, configuration, HTTP API.

python docs/generate.py           # write docs/reference/*.md
python docs/generate.py --check   # exit 1 when a page is not what the code says
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from modelyard.cli.main import COMMANDS, HIDDEN, cli
from modelyard.domain import project
from modelyard.events.catalogue import CATALOGUE
from modelyard.events.webhooks import OFFERED
from modelyard.server.app import ROUTES

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py; do not edit. -->\n"


def commands() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    parts = [
        NOTE,
        "# Commands\n",
        "Every list takes `--json`; `--debug` before a command shows the trace of an error.\n",
    ]
    context = click.Context(cli, info_name="modelyard")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if command is not None and name not in HIDDEN:
            parts += _command(command, context, name, 2)
    return "\n".join(parts)


def events() -> str:
    """The catalogue of events."""
    parts = [
        NOTE,
        "# Events\n",
        "Every change of state is an event, in the transaction of the change: a CloudEvents 1.0 record with `type`",
        "`dev.modelyard.<name>`, `subject`, `actor`, `cause` (the id of what led to it), `prevhash` and `hash`.",
        "`modelyard audit` lists them, `modelyard audit chain ID` shows causes and results, `modelyard audit export`",
        "writes JSON Lines, `modelyard audit verify [FILE]` names the first broken record.\n",
        "Webhooks may name those marked with *.\n",
        "| event | meaning |\n|---|---|",
        *(f"| `{name}`{'*' if name in OFFERED else ''} | {meaning} |" for name, meaning in CATALOGUE.items()),
        "",
    ]
    return "\n".join(parts)


def _command(command: click.Command, parent: click.Context, name: str, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"{'#' * level} `{context.command_path}`\n"
    yield f"```\n{usage}\n```\n"
    yield f"{_plain(command.help)}\n"
    rows = [record for item in command.params if (record := item.get_help_record(context))]
    if rows:
        yield "| option | meaning |\n|---|---|"
        yield from (f"| `{_cell(option)}` | {_cell(meaning)} |" for option, meaning in rows)
        yield ""
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None and not found.hidden:
                yield from _command(found, context, inner, level + 1)


def _plain(text: str | None) -> str:
    paragraphs = (text or "").replace("\b", "").strip().split("\n\n")
    return "\n\n".join("\n".join(line.strip() for line in paragraph.splitlines()) for paragraph in paragraphs)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def configuration() -> str:
    """Every key of modelyard.toml with its type and default."""
    parts = [NOTE, "# modelyard.toml\n"]
    for path, section in project._SECTIONS.items():  # pyright: ignore[reportPrivateUsage]
        title = path.replace("*", "<name>") or "top level"
        parts.append(f"## `[{title}]`\n" if path else "## Top level\n")
        about = (section.__doc__ or "").strip()
        if about and not about.startswith(section.__name__ + "("):
            parts.append(about.splitlines()[0] + "\n")
        parts.append("| key | type | default |\n|---|---|---|")
        for field in msgspec.structs.fields(section):
            parts.append(f"| `{field.encode_name}` | {_cell(_type(field.type))} | {_default(field)} |")
        parts.append("")
    return "\n".join(parts)


def _type(kind: Any) -> str:
    shown = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    for noise in ("typing.", "modelyard.domain.project.", "modelyard.domain."):
        shown = shown.replace(noise, "")
    return f"`{shown}`"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is not msgspec.NODEFAULT:
        value = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        return "required"
    if isinstance(value, msgspec.Struct):
        return "see below"
    return "" if value is None else f"`{value!r}`"


def http() -> str:
    """The native routes with the permission that each needs."""
    parts = [
        NOTE,
        "# HTTP API\n",
        "The OpenAPI document is at `/api/v1/openapi.json`; MLflow's protocol answers beside it. Send",
        '`Authorization: Bearer TOKEN`. Errors are `{"error": {code, message, remedy, fields}}`.\n',
        "| route | permission | what it does |\n|---|---|---|",
    ]
    for route in sorted(ROUTES, key=lambda item: (item.path, item.method)):
        if route.path.startswith(("/api/v1", "/health", "/ready", "/metrics")):
            about = (
                route.summary or (route.handler.__doc__ or route.handler.__name__.replace("_", " ")).splitlines()[0]
            )
            parts.append(f"| `{route.method} {_cell(route.path)}` | `{route.permission}` | {_cell(about)} |")
    return "\n".join(parts) + "\n"


PAGES = {"commands.md": commands, "configuration.md": configuration, "http.md": http, "events.md": events}


def stale() -> list[str]:
    """The pages that are not what the code says."""
    files = {name: REFERENCE / name for name in PAGES}
    return [name for name, page in PAGES.items() if not files[name].exists() or files[name].read_text() != page()]


if __name__ == "__main__":
    if "--check" in sys.argv:
        if found := stale():
            sys.exit(f"Not up to date: {', '.join(found)}. Run: python docs/generate.py")
    else:
        REFERENCE.mkdir(exist_ok=True)
        for name, page in PAGES.items():
            (REFERENCE / name).write_text(page())
