"""Stored content as an answer: a file of this machine, or a stream from the object store."""

from urllib.parse import quote

from starlette.responses import FileResponse, Response, StreamingResponse

from modelyard.store.objects.port import Objects


class BlobResponse(FileResponse):
    """A file in fewer, larger chunks: each is read by another thread, which costs more than the reading."""

    chunk_size = 1 << 20


def answer(
    objects: Objects,
    digest: str,
    size: int,
    *,
    media: str = "application/octet-stream",
    name: str = "",
    show: bool = False,
) -> Response:
    """The blob's bytes in constant memory; `show` lets a browser show them, else it saves them as `name`."""
    path = objects.local(digest)
    kind = "inline" if show else "attachment"
    if path is not None:
        return BlobResponse(path, media_type=media, filename=name or None, content_disposition_type=kind)
    headers = {"content-length": str(size)}
    if name:
        headers["content-disposition"] = f"{kind}; filename*=utf-8''{quote(name)}"
    return StreamingResponse(objects.stream(digest), media_type=media, headers=headers)
