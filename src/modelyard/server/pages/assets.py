"""The console's own files: served under names that hold their digest, so that browsers keep them for good."""

import gzip
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.responses import Response

from modelyard.domain.errors import NotFound
from modelyard.domain.permissions import Permission
from modelyard.kit.hashing import sha256_hex
from modelyard.server.routes import Call, Route

FOLDER = Path(__file__).parent / "static"
FILES = {
    "console.css": FOLDER / "console.css",
    "console.js": FOLDER / "console.js",
    "icon.svg": FOLDER / "icon.svg",
    "htmx.js": FOLDER / "vendor" / "htmx.min.js",
    "uplot.js": FOLDER / "vendor" / "uplot.min.js",
    "uplot.css": FOLDER / "vendor" / "uplot.min.css",
}


@dataclass(frozen=True)
class Asset:
    """A file as it is sent: its bytes, the same compressed, and the digest that its address holds."""

    data: bytes
    packed: bytes
    digest: str
    media: str


@cache
def asset(name: str) -> Asset:
    """The file of that name. Raises NotFound; no path of a client's choosing reaches the file system."""
    path = FILES.get(name)
    if path is None:
        raise NotFound(f"There is no console file {name[:80]!r}.")
    data = path.read_bytes()
    media = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Asset(data, gzip.compress(data, 9, mtime=0), sha256_hex(data)[:16], media)


def url(name: str) -> str:
    """The address of a file; another content has another address."""
    return f"/static/{asset(name).digest}/{name}"


async def serve(call: Call) -> Response:
    """A file, kept by browsers for a year when the digest in its address is right."""
    found = asset(call.path["name"])
    tag = f'"{found.digest}"'
    headers = {"ETag": tag, "Vary": "Accept-Encoding", "Cache-Control": "public, max-age=31536000, immutable"}
    if call.path["digest"] != found.digest:
        headers["Cache-Control"] = "no-cache"
    if call.request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    if "gzip" in call.request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(found.packed, media_type=found.media, headers=headers)
    return Response(found.data, media_type=found.media, headers=headers)


ROUTES = [Route("GET", "/static/{digest}/{name}", Permission.PUBLIC, serve, summary="the console's own files")]
