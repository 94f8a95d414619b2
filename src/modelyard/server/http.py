"""The ASGI application around the route table: guard, authenticate, authorize, decode, call, encode."""

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from sqlalchemy.exc import DBAPIError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from modelyard.domain.errors import Invalid, ModelyardError, TooLarge, Unauthenticated, Unavailable
from modelyard.domain.permissions import Permission, Principal
from modelyard.kit.ids import new_id
from modelyard.server.decoding import decoded
from modelyard.server.guard import LOOPBACK, Authenticator, check_origin
from modelyard.server.mlflow_rest.errors import mlflow_error
from modelyard.server.pages import render
from modelyard.server.routes import Call, Route, RouteTable, require
from modelyard.server.yard import Yard

NOBODY = Principal(name="nobody", kind="anonymous", roles=frozenset())
MLFLOW_PREFIXES = (
    "/api/2.0/",
    "/api/3.0/",
    "/ajax-api/",
    "/get-artifact",
    "/model-versions/get-artifact",
    "/graphql",
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
JSON = "application/json"
JSON_HEADERS = [
    (b"content-type", b"application/json"),
    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
]
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
logger = logging.getLogger("modelyard.server")


class Application:
    """One yard's HTTP surface."""

    def __init__(self, yard: Yard, table: RouteTable) -> None:
        self.yard = yard
        self.table = table
        self.authenticator = Authenticator(yard.store)
        self.hosts = LOOPBACK | {host.lower() for host in yard.settings.hosts} | {yard.settings.host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        # of a header that comes twice the first counts, as with Starlette's Headers, which cost more to ask
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        try:
            response = await self._respond(scope, receive, headers)
            if isinstance(response, bytes):
                await _send_json(send, response)
                return
            await complete(response)(scope, receive, send)
        except ClientDisconnect:
            return

    async def _respond(self, scope: Scope, receive: Receive, headers: Mapping[str, str]) -> Response | bytes:
        path: str = scope["path"]
        principal = NOBODY
        try:
            check_origin(scope["method"], headers, self.hosts)
            route, parameters = self.table.find(scope["method"], path)
            principal = (
                NOBODY if route.permission is Permission.PUBLIC else await self.authenticator.principal(headers)
            )
            require(principal, route.permission, parameters.get(route.environment or ""))
            request = Request(scope, receive)
            body = None if route.stream else await _body(route, receive, headers)
            query = query_in(scope["query_string"])
            size = _size(headers)
            call = Call(self.yard, principal, query, body, size, path=parameters, request=request)
            answer = await route.handler(call)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost loop of a request
            return failure(scope["method"], path, headers, error, principal)
        return answer if isinstance(answer, Response) else msgspec.json.encode(answer)


def complete(response: Response) -> Response:
    """The response with the headers that all of ours have."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if response.media_type == "text/html":
        response.headers.setdefault("Content-Security-Policy", CSP)
    return response


async def _send_json(send: Send, body: bytes) -> None:
    """Most answers: 200 with JSON, without the price of a response object."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [*JSON_HEADERS, length]})
    await send({"type": "http.response.body", "body": body})


def query_in(text: bytes) -> dict[str, str]:
    return dict(parse_qsl(text.decode("latin-1"), keep_blank_values=True)) if text else {}


async def _read(receive: Receive, most: int) -> bytes:
    """The whole body. Raises TooLarge beyond `most` bytes."""
    message = await receive()
    if not message.get("more_body", False) and message["type"] == "http.request":
        data: bytes = message.get("body", b"")
        if len(data) <= most:
            return data
    chunks, size = list[bytes](), 0
    while message["type"] == "http.request":
        size += len(message.get("body", b""))
        if size > most:
            raise _too_large(most)
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()
    raise ClientDisconnect


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"The body is larger than {most} bytes.", remedy="Send less at once.")


def _database_failure(error: DBAPIError) -> ModelyardError:
    error_id = new_id()[:12]
    logger.error("database error %s: %s", error_id, error)
    return Unavailable(
        f"The database refused the work (error {error_id}).",
        remedy="Check the disk's space and rights; the log says more.",
    )


async def _body(route: Route, receive: Receive, headers: Mapping[str, str]) -> Any:
    if route.body is None and not route.form:
        return None
    if _size(headers) > route.max_body:
        raise _too_large(route.max_body)
    data = await _read(receive, route.max_body)
    media = media_type(headers)
    if route.form:
        if media != "application/x-www-form-urlencoded":
            raise Invalid(f"This page takes a form, not {media}.")
        return dict(parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True))
    if media != JSON:
        raise Invalid(f"The body's type is {media}.", remedy="Send application/json.")
    return decoded(data, route.body)


def media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", JSON).partition(";")[0].strip().lower()


def _size(headers: Mapping[str, str]) -> int:
    """The declared size of a body. Raises Invalid."""
    declared = headers.get("content-length", "0")
    if not declared.isdigit():
        raise Invalid("The Content-Length header is no number.")
    return int(declared)


def failure(
    method: str, path: str, headers: Mapping[str, str], error: BaseException, principal: Principal
) -> Response:
    """The answer to a request that failed; what we did not foresee gets an id, which is found in the log."""
    if isinstance(error, ModelyardError):
        told = error
    elif isinstance(error, DBAPIError):
        told = _database_failure(error)
    else:
        error_id = new_id()[:12]
        logger.error("error %s at %s %s", error_id, method, path, exc_info=error)
        told = ModelyardError(f"Internal error {error_id}.", remedy="Its trace is in the log.")
    return _failure(path, headers, told, principal)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def _failure(path: str, headers: Mapping[str, str], error: ModelyardError, principal: Principal) -> Response:
    if f"/{path.lstrip('/')}".startswith(MLFLOW_PREFIXES):
        return mlflow_error(error)
    if render.wants_page(path, headers):
        return render.failure(error, path, headers, None if principal is NOBODY else principal)
    if isinstance(error, Unauthenticated):
        response = _json(error.as_wire(), error.status)
        response.headers["WWW-Authenticate"] = 'Bearer realm="modelyard"'
        return response
    return _json(error.as_wire(), error.status)
