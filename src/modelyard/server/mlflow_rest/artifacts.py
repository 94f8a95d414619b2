"""MLflow's artifact calls: listing by run or model, and the proxy through which the bytes go."""

import mimetypes
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.build.tracking import artifacts, logged_models, runs
from modelyard.domain.errors import Invalid, NotFound, TooLarge
from modelyard.domain.permissions import Permission
from modelyard.registry import versions
from modelyard.server.blobs import answer, incoming
from modelyard.server.mlflow_rest import wire
from modelyard.server.mlflow_rest.runs import run_id_in
from modelyard.server.mlflow_rest.table import pair
from modelyard.server.routes import Call, Route

SAFE_INLINE = frozenset({"image/png", "image/jpeg", "text/plain", "application/json", "text/csv"})


TEXTS = frozenset(
    "txt log err cfg conf cnf cf ini properties prop hocon toml yaml yml xml json js py py3 csv tsv md rst ipynb "
    "MLmodel mlproject".split()
)
"""Endings, and whole names, of what MLflow calls text."""
MOST_NOTE = 10 << 20
"""Bytes that MLflow's pages may upload at once."""


def safe(path: str) -> str:
    """A client's path; nothing for none. Raises Invalid in MLflow's words for one that climbs out."""
    if path.startswith("/"):
        raise Invalid("Invalid path")
    try:
        return artifacts.clean(path) if path else ""
    except Invalid as error:
        raise Invalid("Invalid path") from error


def entries(conn: Connection, root: str, path: str) -> list[wire.Json]:
    """What lies in `root/path`, each path relative to `root`."""
    folder = f"{root}/{path}" if path else root
    found = artifacts.listing(conn, folder)
    prefix = f"{path.strip('/')}/" if path else ""
    return [
        {"path": prefix + item.path, "is_dir": item.is_folder, **({} if item.is_folder else {"file_size": item.size})}
        for item in found
    ]


async def list_of_run(call: Call) -> Any:
    body = wire.fields(call)
    run_id, path = run_id_in(body), safe(wire.text(body, "path", "").rstrip("/"))

    def work(conn: Connection) -> wire.Json:
        row = runs.row_of(conn, run_id)
        root = artifacts.run_root(row.experiment_id, run_id)
        return {"root_uri": row.elsewhere or artifacts.SCHEME + root, "files": entries(conn, root, path)}

    return await call.yard.store.read(work)


async def list_of_model(call: Call) -> Any:
    path = safe(wire.text(wire.fields(call), "artifact_directory_path", "").rstrip("/"))

    def work(conn: Connection) -> wire.Json:
        model = logged_models.get(conn, call.path["model_id"])
        root = artifacts.model_root(model.experiment_id, model.id)
        return {"root_uri": model.location, "files": entries(conn, root, path)}

    return await call.yard.store.read(work)


async def list_folder(call: Call) -> Any:
    root = safe(wire.text(wire.fields(call), "path", "").strip("/"))
    found = await call.yard.store.read(lambda conn: artifacts.listing(conn, root)) if root.strip("/") else []
    return {
        "files": [
            {"path": item.path, "is_dir": item.is_folder, **({} if item.is_folder else {"file_size": item.size})}
            for item in found
        ]
    }


async def download(call: Call) -> Any:
    return await _sent(call, call.path["path"])


async def download_of_run(call: Call) -> Any:
    """What the MLflow UI fetches: a file of a run by its relative path."""
    body = wire.fields(call)
    run_id, path = run_id_in(body), safe(wire.text(body, "path"))
    row = await call.yard.store.read(lambda conn: runs.row_of(conn, run_id))
    return await _sent(call, f"{artifacts.run_root(row.experiment_id, run_id)}/{path}")


async def download_of_model(call: Call) -> Any:
    """A file of a logged model by its relative path."""
    model_id, path = call.path["model_id"], wire.text(call.query, "artifact_file_path")
    model = await call.yard.store.read(lambda conn: logged_models.get(conn, model_id))
    return await _sent(call, f"{artifacts.model_root(model.experiment_id, model.id)}/{safe(path)}")


async def download_of_version(call: Call) -> Any:
    """A file of a model version by its relative path."""
    name, path = wire.text(call.query, "name"), safe(wire.text(call.query, "path"))
    number = wire.whole(call.query, "version")
    manifest = await call.yard.store.read(lambda conn: versions.files(conn, name, number))
    found = next((file for file in manifest if file.path == path), None)
    if found is None:
        raise NotFound(f"{name} v{number} holds no file {path!r}.")
    return await _answer(call, found.path, found.digest, found.size)


async def serve(call: Call, path: str) -> Response:
    """The file's bytes for a browser; anything that it would run is sent as an attachment."""
    found = await call.yard.store.read(lambda conn: artifacts.get(conn, path))
    media = mimetypes.guess_type(path)[0] or "application/octet-stream"
    name = path.rpartition("/")[2]
    return await answer(call, found.digest, found.size, media=media, name=name, show=media in SAFE_INLINE)


async def _sent(call: Call, path: str) -> Response:
    found = await call.yard.store.read(lambda conn: artifacts.get(conn, path))
    return await _answer(call, found.path, found.digest, found.size)


async def _answer(call: Call, path: str, digest: str, size: int) -> Response:
    """As MLflow sends a file: an attachment, whose type is text where the name's ending tells so."""
    name = path.rpartition("/")[2]
    text = name.rpartition(".")[2] in TEXTS
    media = "text/plain" if text else mimetypes.guess_type(name)[0] or "application/octet-stream"
    return await answer(call, digest, size, media=media, name=name)


async def upload(call: Call) -> Any:
    path = artifacts.clean(call.path["path"])
    async with incoming(call.request) as pieces:
        blob = await call.yard.objects.put(pieces)
    await call.yard.store.write(lambda conn: artifacts.put(conn, path, blob))
    return {}


async def upload_to_run(call: Call) -> Any:
    """What the MLflow UI sends: a small file of a run."""
    run_id, path = (call.query.get(key, "") for key in ("run_uuid", "path"))
    for key, value in (("run_uuid", run_id), ("path", path)):
        if not value:
            raise Invalid(f"Request must specify {key}.")
    path = safe(path)
    row = await call.yard.store.read(lambda conn: runs.row_of(conn, run_id))
    try:
        blob = await call.yard.objects.put(call.request.stream(), MOST_NOTE)
    except TooLarge as error:
        raise Invalid("Artifact size is too large. Max size is 10MB.") from error
    if not blob.size:
        raise Invalid("Request must specify data.")
    place = f"{artifacts.run_root(row.experiment_id, run_id)}/{path}"
    await call.yard.store.write(lambda conn: artifacts.put(conn, place, blob))
    return Response()


async def delete(call: Call) -> Any:
    path = artifacts.clean(call.path["path"])
    await call.yard.store.write(lambda conn: artifacts.remove(conn, path))
    return {}


R, W, V = Permission.RUNS_READ, Permission.RUNS_WRITE, Permission.VERSIONS_READ
ROUTES: list[Route] = [
    *pair("GET", "mlflow/artifacts/list", R, list_of_run),
    *pair("GET", "mlflow/logged-models/{model_id}/artifacts/directories", R, list_of_model),
    *pair("GET", "mlflow-artifacts/artifacts", R, list_folder),
    *pair("GET", "mlflow-artifacts/artifacts/{path:path}", R, download),
    *pair("PUT", "mlflow-artifacts/artifacts/{path:path}", W, upload, stream=True),
    *pair("DELETE", "mlflow-artifacts/artifacts/{path:path}", W, delete, stream=True),
    *pair("GET", "mlflow/logged-models/{model_id}/artifacts/files", R, download_of_model),
    Route("POST", "/ajax-api/2.0/mlflow/upload-artifact", W, upload_to_run, stream=True),
    Route("GET", "/get-artifact", R, download_of_run),
    Route("GET", "/model-versions/get-artifact", V, download_of_version),
]
