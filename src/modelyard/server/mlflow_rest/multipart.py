"""MLflow's uploads in parts: clients send them to addresses that we sign, and we join what came."""

import asyncio
import re
from itertools import chain
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.build.tracking import artifacts, uploads
from modelyard.build.tracking.uploads import Upload
from modelyard.domain.errors import Forbidden
from modelyard.domain.permissions import Permission
from modelyard.server.blobs import incoming
from modelyard.server.mlflow_rest import wire
from modelyard.server.mlflow_rest.errors import NotImplementedHere
from modelyard.server.mlflow_rest.table import pair
from modelyard.server.routes import Call, Route

PARTS = "/api/2.0/mlflow-artifacts/mpu/parts"


def _target(call: Call) -> str:
    """Where the file goes: the folder of the address and the name of the client's file."""
    folder, name = call.path.get("path", ""), re.split(r"[/\\]", wire.text(call.body, "path"))[-1]
    return artifacts.clean(f"{folder}/{name}" if folder else name)


async def create(call: Call) -> Any:
    path, count, author = _target(call), wire.whole(call.body, "num_parts", 1), call.principal.name
    made = await call.yard.store.write(lambda conn: uploads.begin(conn, path, count, author=author))
    base = str(call.request.base_url).rstrip("/")
    return {
        "upload_id": made.id,
        "credentials": [
            {"url": f"{base}{PARTS}/{made.id}/{number}?signature={made.signature(number)}", "part_number": number}
            for number in range(1, made.parts + 1)
        ],
    }


async def take(call: Call) -> Any:
    """A part, from whoever has its address; the ETag is its digest, which the client says again at the end."""
    upload_id, number, signature = call.path["upload"], call.path["number"], call.query.get("signature", "")
    if not number.isdigit() or len(number) > 5:
        raise Forbidden("The address names no part.")
    part = int(number)
    await call.yard.store.read(lambda conn: uploads.expecting(conn, upload_id, part, signature))
    async with incoming(call.request) as pieces:
        blob = await call.yard.objects.put(pieces)
    await call.yard.store.write(lambda conn: uploads.take(conn, upload_id, part, blob))
    return Response(headers={"etag": f'"{blob.digest}"'})


async def complete(call: Call) -> Any:
    """The file, joined in a thread and in constant memory. A client that asks again gets the same answer."""
    upload_id, path, author = wire.text(call.body, "upload_id"), _target(call), call.principal.name
    wanted = [(wire.whole(item, "part_number"), _digest(item)) for item in wire.items(call.body, "parts")]

    def work(conn: Connection) -> tuple[Upload, list[uploads.Part]]:
        found = uploads.of_author(conn, upload_id, path, author)
        return found, [] if found.done else uploads.chosen(conn, found, wanted)

    upload, parts = await call.yard.store.read(work)
    if upload.done:
        return {}
    objects = call.yard.objects
    pieces = chain.from_iterable(objects.read(part.digest) for part in parts)
    blob = await asyncio.to_thread(objects.put_chunks, pieces)
    await call.yard.store.write(lambda conn: uploads.finish(conn, upload_id, blob))
    return {}


def _digest(part: wire.Json) -> str:
    return wire.text(part, "etag", "").strip('"')


async def abort(call: Call) -> Any:
    upload_id, path, author = wire.text(call.body, "upload_id"), _target(call), call.principal.name

    def work(conn: Connection) -> None:
        uploads.give_up(conn, uploads.of_author(conn, upload_id, path, author).id)

    await call.yard.store.write(work)
    return {}


async def refuse_download(call: Call) -> Any:
    """Clients know this message and ask for the file in one stream."""
    raise NotImplementedHere("Multipart download is not supported for the current artifact repository")


R, W = Permission.RUNS_READ, Permission.RUNS_WRITE
ROUTES: list[Route] = [
    *pair("POST", "mlflow-artifacts/mpu/create", W, create),
    *pair("POST", "mlflow-artifacts/mpu/create/{path:path}", W, create),
    *pair("POST", "mlflow-artifacts/mpu/complete", W, complete),
    *pair("POST", "mlflow-artifacts/mpu/complete/{path:path}", W, complete),
    *pair("POST", "mlflow-artifacts/mpu/abort", W, abort),
    *pair("POST", "mlflow-artifacts/mpu/abort/{path:path}", W, abort),
    Route("PUT", PARTS + "/{upload}/{number}", Permission.PUBLIC, take, stream=True),
    *pair("GET", "mlflow-artifacts/presigned/{path:path}", R, refuse_download),
]
