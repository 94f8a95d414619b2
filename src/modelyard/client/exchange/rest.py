"""The MLflow REST protocol as a client speaks it: JSON calls, pages, raw bytes."""

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import urllib3

from modelyard.client.exchange.records import Json, Point
from modelyard.domain.errors import ModelyardError, NotFound, Unavailable

API = "/api/2.0/mlflow/"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"


class MlflowRest:
    """One MLflow server. The credential is `token`, the URL's user:password, or $MLFLOW_EXCHANGE_TOKEN."""

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        self._headers: dict[str, str] = {}
        if parts.username:
            self._headers = urllib3.make_headers(basic_auth=f"{parts.username}:{parts.password or ''}")
        elif token := token or os.environ.get("MLFLOW_EXCHANGE_TOKEN"):
            self._headers = {"authorization": f"Bearer {token}"}
        host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        self.url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        retries = urllib3.Retry(
            total=4, backoff_factor=0.3, status_forcelist=(429, 502, 503, 504), allowed_methods=None
        )
        self._pool = urllib3.PoolManager(retries=retries, timeout=urllib3.Timeout(connect=5.0, read=120.0))

    def get(self, path: str, **query: Any) -> Json:
        text = urlencode({key: str(value) for key, value in query.items() if value is not None})
        return self._json("GET", f"{self.url}{API}{path}" + (f"?{text}" if text else ""), None)

    def post(self, path: str, body: Json, method: str = "POST") -> Json:
        return self._json(method, f"{self.url}{API}{path}", body)

    def pages(self, path: str, noun: str, query: Json, *, post: bool) -> Iterator[Json]:
        """Every item of a paged answer."""
        token: str | None = None
        while True:
            asked = {**query, **({"page_token": token} if token else {})}
            page = self.post(path, asked) if post else self.get(path, **asked)
            yield from page.get(noun, [])
            token = page.get("next_page_token")
            if not token:
                return

    def listing(self, folder: str) -> Iterator[tuple[str, int | None]]:
        """(path relative to `folder`, size) of every file below a folder of the artifact proxy."""
        waiting = [""]
        while waiting:
            inner = waiting.pop()
            asked = f"{folder}/{inner}" if inner else folder
            answer = self._json("GET", f"{self.url}{PROXY}?{urlencode({'path': asked})}", None)
            for item in answer.get("files", []):
                path = f"{inner}/{item['path']}" if inner else item["path"]
                if item.get("is_dir"):
                    waiting.append(path)
                else:
                    size = item.get("file_size")
                    yield path, None if size is None else int(size)

    def download(self, path: str) -> Iterator[bytes]:
        """The chunks of a file of the artifact proxy."""
        answer = self._send("GET", f"{self.url}{PROXY}/{quote(path)}", None, stream=True)
        try:
            yield from answer.stream(1 << 20)
        except urllib3.exceptions.HTTPError as error:
            raise self._silent(error) from error
        finally:
            answer.release_conn()

    def upload(self, path: str, chunks: Iterable[bytes]) -> None:
        self._send("PUT", f"{self.url}{PROXY}/{quote(path)}", chunks)

    def close(self) -> None:
        self._pool.clear()

    def _json(self, method: str, target: str, body: Json | None) -> Json:
        data = None if body is None else json.dumps(body).encode()
        return json.loads(self._send(method, target, data).data or b"{}")

    def _send(self, method: str, target: str, body: Any, *, stream: bool = False) -> urllib3.BaseHTTPResponse:
        kind = "application/json" if isinstance(body, bytes) else "application/octet-stream"
        headers = {**self._headers, "accept": "*/*", **({"content-type": kind} if body is not None else {})}
        try:
            answer = self._pool.request(method, target, headers=headers, body=body, preload_content=not stream)
        except urllib3.exceptions.HTTPError as error:
            raise self._silent(error) from error
        if answer.status == 404:
            raise NotFound(f"{self.url}: {_message(answer)}")
        if answer.status >= 400:
            raise ModelyardError(f"{self.url} answered {answer.status}: {_message(answer)}")
        return answer

    def _silent(self, error: Exception) -> Unavailable:
        return Unavailable(f"No answer from {self.url} ({type(error).__name__}).", remedy="Is it running?")


def _message(answer: urllib3.BaseHTTPResponse) -> str:
    try:
        return str(json.loads(answer.data)["message"])[:400]
    except (ValueError, KeyError, TypeError):
        return answer.data[:200].decode("utf-8", "replace")


HUGE = 1.7976931348623157e308
"""MLflow's SQL store keeps infinities as the greatest double."""


def number(value: Any) -> float:
    """A metric's value on the wire: a number, or NaN and Infinity as text."""
    return float(value)


def finite_or_not(value: float) -> float:
    """A value of MLflow's SQL store, with its infinities back."""
    if abs(value) < HUGE or value != value:
        return value
    return float("inf") if value > 0 else float("-inf")


def point_of(item: Json, *, stored: bool = False) -> Point:
    """A point on the wire. `stored`: a server told it, which may keep infinities as the greatest double."""
    value = number(item["value"])
    time, step = int(item.get("timestamp") or 0), int(item.get("step") or 0)
    return Point(item["key"], finite_or_not(value) if stored else value, time, step)


def mapping(items: list[Json] | None) -> dict[str, str]:
    """{key: value} of MLflow's list of tags or params."""
    return {item["key"]: item.get("value", "") for item in items or []}
