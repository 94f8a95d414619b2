"""What runs wrote: folders, safe previews, downloads. Nothing that a run wrote is ever run by a browser."""

import csv
import io
import mimetypes
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.build.tracking import artifacts, logged_models, runs
from modelyard.domain.errors import Invalid, NotFound
from modelyard.domain.permissions import Permission
from modelyard.registry import versions
from modelyard.server.api.models import version_number
from modelyard.server.blobs import answer
from modelyard.server.pages import render, wording
from modelyard.server.routes import Call, Route

IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Shown as they are. SVG is not among them: it can hold script."""
MOST_TEXT = 200_000
MOST_ROWS = 200
CONFINED = "sandbox; default-src 'none'"


async def browse(call: Call) -> Response:
    """A folder or file of a run, or of a logged model of the run (`model`)."""
    run_id, model_id = call.path["id"], call.query.get("model", "")
    path = artifacts.clean(call.query["path"]) if call.query.get("path", "").strip("/") else ""

    def work(conn: Connection) -> dict[str, Any]:
        run = runs.get(conn, run_id)
        root, model_name = artifacts.run_root(run.experiment_id, run_id), ""
        if model_id:
            model = logged_models.get(conn, model_id)
            if model.run_id != run_id:
                raise NotFound(f"Run {run_id} wrote no model {model_id[:80]!r}.")
            root, model_name = artifacts.model_root(model.experiment_id, model.id), model.name
        whole = f"{root}/{path}" if path else root
        found = [item for item in artifacts.under(conn, whole) if item.path == whole]
        entries = artifacts.listing(conn, whole)
        if path and not found and not entries:
            raise NotFound(f"There is no artifact {path!r}.", remedy="Go back to the run's list of artifacts.")
        return {"run": run, "file": found[0] if found else None, "entries": entries, "model_name": model_name}

    context = await call.yard.store.read(work)
    names = path.split("/") if path else []
    context |= {
        "path": path,
        "trail": [(name, "/".join(names[: index + 1])) for index, name in enumerate(names)],
        "prefix": f"{path}/" if path else "",
        "files_at": wording.at("runs", run_id, "artifacts"),
        "model_id": model_id,
        **(await _preview(call, context["file"]) if context["file"] else {}),
    }
    return render.page(call, "artifacts.html", **context)


async def _preview(call: Call, file: artifacts.Artifact) -> dict[str, Any]:
    media = mimetypes.guess_type(file.path)[0] or ""
    shown: dict[str, Any] = {"image": media in IMAGES, "text": None, "table": None, "cut": False}
    if shown["image"]:
        return shown
    data = bytearray()
    async for chunk in call.yard.objects.stream(file.digest):
        data += chunk
        if len(data) > MOST_TEXT:
            break
    try:
        text = bytes(data[:MOST_TEXT]).decode("utf-8", "strict" if len(data) <= MOST_TEXT else "ignore")
    except UnicodeDecodeError:
        return shown
    if "\x00" in text:
        return shown
    shown["text"], shown["cut"] = text, len(data) > MOST_TEXT
    if media == "text/csv":
        rows = [row for _, row in zip(range(MOST_ROWS + 1), csv.reader(io.StringIO(text, newline="")), strict=False)]
        shown["table"], shown["cut"] = rows or None, shown["cut"] or len(rows) > MOST_ROWS
    return shown


async def download(call: Call) -> Response:
    return _guarded(await _stored(call, show=False))


async def image(call: Call) -> Response:
    """A picture for a page's <img>; anything else is refused."""
    return _guarded(await _stored(call, show=True))


async def _stored(call: Call, show: bool) -> Response:
    path = call.query.get("path", "")
    found = await call.yard.store.read(lambda conn: artifacts.get(conn, path))
    media = mimetypes.guess_type(found.path)[0] or ""
    if show and media not in IMAGES:
        raise Invalid("This is not a picture that is shown.", remedy="Download the file.")
    kind = media if show else "application/octet-stream"
    name = found.path.rpartition("/")[2]
    return await answer(call, found.digest, found.size, media=kind, name=name, show=show)


async def version_file(call: Call) -> Response:
    name, number, path = call.path["name"], version_number(call), call.query.get("path", "")
    held = await call.yard.store.read(lambda conn: versions.files(conn, name, number))
    file = next((file for file in held if file.path == path), None)
    if file is None:
        raise NotFound(f"{name} v{number} has no file {path[:200]!r}.", remedy="Its page lists them.")
    return _guarded(await answer(call, file.digest, file.size, name=path.rpartition("/")[2]))


def _guarded(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = CONFINED
    response.headers["Cache-Control"] = "private, no-cache"
    return response


R = Permission.RUNS_READ
ROUTES = [
    Route("GET", "/runs/{id}/artifacts", R, browse),
    Route("GET", "/artifacts/download", R, download),
    Route("GET", "/artifacts/image", R, image),
    Route("GET", "/models/{name}/versions/{version}/file", Permission.VERSIONS_READ, version_file),
]
