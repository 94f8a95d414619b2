"""What callers are told of asynchronous requests, and how replies are kept."""

from typing import Any

import msgspec

from modelyard.deliver.serving.waiting_located import Located
from modelyard.deliver.serving.waiting_store import DONE

PREFIX = "requests/"
RawHeaders = list[tuple[bytes, bytes]]
Reply = tuple[int, RawHeaders, bytes]


def encoded(headers: RawHeaders) -> str:
    """Headers as the store keeps them."""
    return msgspec.json.encode([(key.decode("latin-1"), value.decode("latin-1")) for key, value in headers]).decode()


def decoded(answer: tuple[int, str, bytes]) -> Reply:
    """A reply as the store keeps it."""
    status, headers, body = answer
    pairs = msgspec.json.decode(headers, type=list[tuple[str, str]])
    return status, [(key.encode("latin-1"), value.encode("latin-1")) for key, value in pairs], body


def place(name: str, identity: str) -> str:
    """The path of a request."""
    return f"/endpoints/{name}/{PREFIX}{identity}"


def pending(status: int, name: str, shown: dict[str, Any]) -> Reply:
    """A request's state as its caller is told."""
    where = place(name, shown["id"])
    headers: RawHeaders = [(b"content-type", b"application/json"), (b"location", where.encode())]
    if status == 202:
        headers.append((b"preference-applied", b"respond-async"))
    if shown["state"] != DONE:
        headers.append((b"retry-after", b"1"))
    told = {name: value for name, value in shown.items() if name != "located"}
    if shown.get("located"):
        located = msgspec.json.decode(shown["located"], type=Located)
        told |= {"output": located.output, "failure": located.failure}
    return status, headers, msgspec.json.encode({**told, "result": f"{where}/result"})
