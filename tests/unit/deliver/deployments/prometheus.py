"""A Prometheus for tests: its HTTP API on a free port; a function decides what a query's answer is."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, Any]


def vector(*values: float) -> Answer:
    """What Prometheus answers to a query that matches these series."""
    found = [{"metric": {"n": str(n)}, "value": [1.0, str(value)]} for n, value in enumerate(values)]
    return 200, {"status": "success", "data": {"resultType": "vector", "result": found}}


def scalar(value: float) -> Answer:
    return 200, {"status": "success", "data": {"resultType": "scalar", "result": [1.0, str(value)]}}


@contextmanager
def prometheus(answer: Callable[[str], Answer]) -> Iterator[str]:
    """The URL of a server that answers queries so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            assert parts.path == "/api/v1/query"
            status, content = answer(parse_qs(parts.query)["query"][0])
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
