"""The light SDK: the native API's calls, over any transport."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from modelyard.client.paths import path as path
from modelyard.client.transport import Body, HttpTransport, Transport
from modelyard.domain.errors import from_wire


class Client:
    """Calls the native API as one principal.

    client = Client.connect("http://127.0.0.1:8600", token)
    client.call("GET", "/api/v1/models")
    """

    def __init__(self, transport: Transport, token: str) -> None:
        self._transport = transport
        self._headers = {"authorization": f"Bearer {token}", "accept": "application/json"}

    @classmethod
    def connect(cls, url: str, token: str) -> "Client":
        return cls(HttpTransport(url), token)

    @property
    def url(self) -> str:
        return self._transport.url

    def call(self, method: str, path: str, *, query: dict[str, Any] | None = None, body: Any = None) -> Any:
        """The decoded answer. Raises the ModelyardError that the server answered, or Unavailable."""
        headers = dict(self._headers)
        data: Body = None
        if body is not None:
            headers["content-type"] = "application/json"
            data = msgspec.json.encode(body)
        text = {name: str(value) for name, value in (query or {}).items() if value is not None}
        answer = self._transport.send(method, path, text, headers, data)
        return _decoded(answer.status, answer.body)

    def upload(
        self, method: str, path: str, data: bytes | Iterable[bytes], media: str = "application/octet-stream"
    ) -> Any:
        """Send raw bytes, streamed when an iterable of chunks is given."""
        headers = {**self._headers, "content-type": media}
        answer = self._transport.send(method, path, {}, headers, data)
        return _decoded(answer.status, answer.body)

    def download(self, path: str, query: dict[str, str] | None = None) -> bytes:
        """The raw bytes of an answer. Raises the ModelyardError that the server answered."""
        answer = self._transport.send("GET", path, query or {}, {**self._headers, "accept": "*/*"}, None)
        if answer.status >= 400:
            _decoded(answer.status, answer.body)
        return answer.body

    def pages(self, path: str, noun: str, query: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Every item of a list, page after page."""
        token: str | None = None
        while True:
            page = self.call("GET", path, query={**(query or {}), "after": token})
            yield from page[noun]
            token = page.get("next")
            if not token:
                return

    def close(self) -> None:
        self._transport.close()


def _decoded(status: int, body: bytes) -> Any:
    try:
        value = msgspec.json.decode(body) if body else None
    except msgspec.DecodeError:
        value = None
    if status >= 400:
        raise from_wire(status, value)
    return value
