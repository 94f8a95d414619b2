"""What a request must pass before it is answered: the host it names, where it comes from, who sends it, its size."""

import asyncio
import hashlib
import ipaddress
import zlib
from base64 import b64decode
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any

from modelyard.deliver.serving.errors import Refused
from modelyard.deliver.serving.routing import Routing

Headers = dict[bytes, bytes]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
SIGNED, SESSION = b"aws4-hmac-sha256", b"x-amz-security-token"
"""How AWS's clients send a session's token; what they sign besides is not looked at."""
ENCODINGS = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class CallerLeft(Exception):
    """The connection ended before the whole body came."""


@lru_cache(maxsize=256)
def host_name(value: bytes) -> str:
    """The name or address in a Host header, without its port; empty when it is not well formed."""
    text = value.decode("latin-1")
    if text.startswith("["):
        inside, closing, port = text[1:].partition("]")
        if not closing or (port and not (port[0] == ":" and port[1:].isdigit())):
            return ""
        try:
            return str(ipaddress.IPv6Address(inside))
        except ValueError:
            return ""
    name, colon, port = text.partition(":")
    if colon and not port.isdigit():
        return ""
    return name.lower()


def check_host(headers: Headers, named: tuple[str, ...], *, page: bool = False) -> None:
    """Refuse foreign hosts (DNS rebinding) and requests that another site's page makes a browser send.

    page: it is one that a person may come to by a link, such as the console's.
    """
    host = headers.get(b"host", b"")
    name = host_name(host)
    if name not in LOOPBACK and (not name or name not in named):
        raise Refused(403, "The Host header names a host that this gateway does not answer for.")
    if page and (headers.get(b"sec-fetch-mode"), headers.get(b"sec-fetch-dest")) == (b"navigate", b"document"):
        return
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site not in (None, b"none", b"same-origin") or (origin is not None and origin.partition(b"://")[2] != host):
        raise Refused(403, "Requests from other sites' pages are not answered here.")


def authenticate(headers: Headers, routing: Routing, *, labels: bool = False, page: bool = False) -> str:
    """The principal whose token was sent, which may invoke, or send `labels`. Source of the errors: RFC 6750, 3.1.

    Raises Refused; a `page` makes the browser ask for the token.
    """
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    scheme, secret = scheme.lower(), b""
    if scheme == b"bearer":
        secret = value.strip()
    elif scheme == b"basic":
        secret = _password(value)
    elif scheme == SIGNED:
        secret = headers.get(SESSION, b"")
    asked = f'{"Basic" if page else "Bearer"} realm="modelyard"'
    if not secret:
        how = "the token as aws_session_token" if scheme == SIGNED else "'Authorization: Bearer TOKEN'"
        raise Refused(401, f"Send {how}.", www_authenticate=asked)
    may, tokens = ("send labels", routing.labelers) if labels else ("invoke endpoints", routing.tokens)
    digest = hashlib.sha256(secret).hexdigest()
    principal = tokens.get(digest)
    if principal is not None:
        return principal
    if digest in routing.tokens or digest in routing.labelers or digest in routing.others:
        why = f"This token may not {may} in {routing.environment}."
        raise Refused(403, why, www_authenticate=f'{asked}, error="insufficient_scope"')
    why = f"This token is not known in {routing.environment}: it is wrong, has ended or was revoked."
    raise Refused(401, why, www_authenticate=f'{asked}, error="invalid_token"')


def _password(value: bytes) -> bytes:
    try:
        return b64decode(value, validate=True).partition(b":")[2]
    except ValueError:
        return b""


def check_method(method: str, wanted: str, path: str) -> None:
    """Refuse (405) another method than a path takes; HEAD goes where GET does."""
    if method != wanted and not (method == "HEAD" and wanted == "GET"):
        raise Refused(405, f"{path} is asked by {wanted}.", allow=wanted)


async def read_body(receive: Receive, headers: Headers, most: int) -> bytes:
    """The whole body, unpacked. Raises Refused (400, 413, 415), CallerLeft."""
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit() or int(declared) > most:
        raise Refused(413, f"The body is larger than {most} bytes.")
    message = await receive()
    parts: list[bytes] = [message.get("body", b"")]
    size = len(parts[0])
    while message.get("more_body") and size <= most:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    if message["type"] == "http.disconnect":
        raise CallerLeft
    if size > most:
        raise Refused(413, f"The body is larger than {most} bytes.")
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    return body if encoding in (b"", b"identity") else await asyncio.to_thread(unpacked, body, encoding, most)


def unpacked(body: bytes, encoding: bytes, most: int) -> bytes:
    """A body as it was before its caller packed it. Raises Refused (400, 413, 415)."""
    if encoding not in ENCODINGS:
        raise Refused(415, "The body's Content-Encoding must be gzip or deflate.", accept_encoding="gzip, deflate")
    unpacking = zlib.decompressobj(ENCODINGS[encoding])
    try:
        found = unpacking.decompress(body, most + 1)
    except zlib.error:
        raise Refused(400, f"The body is not {encoding.decode()}.") from None
    if len(found) > most:
        raise Refused(413, f"The body is larger than {most} bytes once it is unpacked.")
    if not unpacking.eof or unpacking.unused_data:
        raise Refused(400, f"The body is not one whole {encoding.decode()} stream.")
    return found


@lru_cache(maxsize=256)
def accepted(accept: bytes) -> str:
    """What the worker is told of an Accept header: nothing when it asks for JSON, as most do."""
    return "" if accept.startswith((b"*/*", b"application/json")) else accept[:200].decode("latin-1")


def json_length(headers: Headers) -> int | None:
    """The length of the JSON before raw tensors. Raises Refused."""
    value = headers.get(b"inference-header-content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 12:
        raise Refused(400, "Inference-Header-Content-Length must be a count of bytes.")
    return int(value)
