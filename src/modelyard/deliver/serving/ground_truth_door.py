"""Labels at the gateway: written beside its prediction log, whether or not the server runs."""

import asyncio
import re
from functools import partial
from pathlib import Path

import msgspec

from modelyard.deliver.serving import door, ground_truth
from modelyard.deliver.serving.door import Headers, Receive
from modelyard.deliver.serving.errors import Refused
from modelyard.deliver.serving.ground_truth import Labels
from modelyard.deliver.serving.routing import Endpoint
from modelyard.kit.clock import now_ms

PATH = re.compile(r"/endpoints/[^/]+/ground-truth")
BODIES = msgspec.json.Decoder(Labels)


async def take(
    method: str, endpoint: Endpoint, headers: Headers, receive: Receive
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """How many labels are on the disk now. Raises Refused (400, 405, 413, 415, 503)."""
    if method != "POST":
        raise Refused(405, "Labels are sent by POST.", allow="POST")
    if headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower() != b"application/json":
        raise Refused(415, "Send labels as application/json.")
    if endpoint.log is None:
        raise Refused(503, "This endpoint keeps no prediction log, so there is nothing that labels could join.")
    body = await door.read_body(receive, headers, ground_truth.MOST_BYTES)
    try:
        labels = BODIES.decode(body).at(now_ms())
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused(400, f'Labels are {{"labels": [{{"id": "...", "label": 1}}]}}: {error}.') from None
    if reason := ground_truth.unfit(labels, endpoint.task):
        raise Refused(400, f"{reason}.")
    write = partial(ground_truth.append, Path(endpoint.log.folder), labels)
    try:
        written = await asyncio.get_running_loop().run_in_executor(None, write)
    except OSError as error:
        raise Refused(503, f"The labels could not be written: {error.strerror}.", retry_after="5") from None
    return 200, [(b"content-type", b"application/json")], msgspec.json.encode({"labels": written})
