"""The Open Inference Protocol over gRPC: the same endpoints, tokens, checks, limits and log as over HTTP."""

from typing import TYPE_CHECKING, Any

import msgspec

from modelyard.deliver.serving import grpc_infer
from modelyard.deliver.serving.certificates import Certificates, InForce
from modelyard.deliver.serving.door import Headers
from modelyard.deliver.serving.errors import BadInput, Refused
from modelyard.domain.errors import MissingExtra

if TYPE_CHECKING:
    from modelyard.deliver.serving.gateway import Gateway, Reply

try:
    import grpc
    from grpc import aio

    from modelyard.deliver.serving import grpc_messages
except ImportError as error:  # an extra
    raise MissingExtra(error.name or "grpcio", "grpc", "The Open Inference Protocol over gRPC") from error

MOST_MESSAGE = 256 << 20
DRAIN_S = 10
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
TOLD = (b"x-prediction-id", b"x-modelyard-deployment", b"x-modelyard-version", b"server-timing", b"x-request-id")
"""Headers of an answer that are sent as its initial metadata."""


class Failed(Exception):
    """An answer that is an error over HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.code = CODES.get(status, grpc.StatusCode.INTERNAL)


class Service:
    """The protocol's calls, answered by the gateway's own HTTP paths."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._messages = grpc_messages.classes()

    def handler(self) -> Any:
        """What grpc calls by method name."""
        calls = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
        }
        handlers = {name: self._unary(name, call) for name, call in calls.items()}
        return grpc.method_handlers_generic_handler(grpc_messages.SERVICE, handlers)

    def _unary(self, name: str, call: Any) -> Any:
        async def answer(request: Any, context: Any) -> Any:
            try:
                return await call(request, context)
            except Refused as refused:
                await context.abort(CODES.get(refused.status, grpc.StatusCode.INTERNAL), str(refused))
            except Failed as failed:
                await context.abort(failed.code, str(failed))

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=self._messages[f"{name}Request"].FromString,
            response_serializer=self._messages[f"{name}Response"].SerializeToString,
        )

    async def _ask(self, context: Any, method: str, path: str, body: bytes = b"", **more: bytes) -> "Reply":
        """The answer to an HTTP request with the call's metadata as its headers. Raises Refused."""
        headers: Headers = {key.encode(): _bytes(value) for key, value in context.invocation_metadata() or ()}
        headers |= {b"host": b"localhost", b"content-length": b"%d" % len(body)}  # no browser speaks gRPC
        headers |= {name.replace("_", "-").encode(): value for name, value in more.items()}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        try:
            return await self._gateway.respond(method, path, headers, receive)
        except Refused as refused:
            self._gateway.note(path, refused)
            raise

    async def _told(self, context: Any, path: str) -> tuple[int, Any]:
        status, _, body = await self._ask(context, "GET", path)
        return status, msgspec.json.decode(body)

    async def _live(self, request: Any, context: Any) -> Any:
        return self._messages["ServerLiveResponse"](live=(await self._told(context, "/v2/health/live"))[0] == 200)

    async def _ready(self, request: Any, context: Any) -> Any:
        return self._messages["ServerReadyResponse"](ready=(await self._told(context, "/v2/health/ready"))[0] == 200)

    async def _model_ready(self, request: Any, context: Any) -> Any:
        status, _ = await self._told(context, f"{_path(request.name, request.version)}/ready")
        return self._messages["ModelReadyResponse"](ready=status == 200)

    async def _metadata(self, request: Any, context: Any) -> Any:
        _, found = await self._told(context, "/v2")
        return self._messages["ServerMetadataResponse"](**found)

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        status, found = await self._told(context, _path(request.name, request.version))
        if status != 200:
            raise Failed(status, str(found.get("error")))
        return self._messages["ModelMetadataResponse"](**found)

    async def _infer(self, request: Any, context: Any) -> Any:
        path = f"{_path(request.model_name, request.model_version)}/infer"
        try:
            body, json_length = grpc_infer.request(request)
        except BadInput as error:
            refused = Refused(400, str(error))
            self._gateway.note(path, refused)
            raise refused from None
        status, headers, answer = await self._ask(
            context, "POST", path, body, content_type=b"application/octet-stream",
            inference_header_content_length=b"%d" % json_length,
        )  # fmt: skip
        named = dict(headers)
        await context.send_initial_metadata([(key.decode(), named[key].decode()) for key in TOLD if key in named])
        if status != 200:
            raise Failed(status, str(msgspec.json.decode(answer).get("error")))
        length = named.get(b"inference-header-content-length")
        return grpc_infer.response(answer, int(length) if length else None, self._messages["ModelInferResponse"]())


def _path(name: str, version: str) -> str:
    return f"/v2/models/{name}" + (f"/versions/{version}" if version else "")


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


async def serve(gateway: "Gateway", address: str) -> Any:
    """A started server on `host:port`; encrypted as the gateway's HTTP is. Raises OSError."""
    server = aio.server(
        options=[("grpc.max_receive_message_length", MOST_MESSAGE), ("grpc.so_reuseport", 0)],
    )
    server.add_generic_rpc_handlers((Service(gateway).handler(),))
    try:
        if gateway.certificates is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, _credentials(gateway.certificates))
    except RuntimeError as error:  # what grpc raises for an address that it cannot have
        raise OSError(str(error)) from error
    await server.start()
    return server


def _credentials(certificates: Certificates) -> Any:
    """What grpc asks again at each handshake, in a thread of its own."""
    used = certificates.held

    def configuration(held: InForce) -> Any:
        return grpc.ssl_server_certificate_configuration([(held.key, held.certificate)], held.client_ca)

    def renewed() -> Any:
        nonlocal used
        if certificates.held is used:
            return None
        used = certificates.held
        return configuration(used)

    return grpc.dynamic_ssl_server_credentials(configuration(used), renewed, used.client_ca is not None)
