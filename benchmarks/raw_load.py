"""Load over raw sockets: keep-alive connections that send one request and wait for its answer, again and again."""

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlsplit


async def _worker(host: str, port: int, payload: Callable[[int], bytes], end: float, counts: list[int]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    number = 0
    while time.monotonic() < end:
        writer.write(payload(number))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"answer: {head[:300]!r}")
        at = head.lower().index(b"content-length:") + 15
        await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
        number += 1
    counts.append(number)
    writer.close()


async def _run(url: str, payloads: list[Callable[[int], bytes]], seconds: float) -> float:
    parts = urlsplit(url)
    counts: list[int] = []
    began = time.monotonic()
    end = began + seconds
    await asyncio.gather(
        *(_worker(parts.hostname or "", parts.port or 0, payload, end, counts) for payload in payloads)
    )
    return sum(counts) / (time.monotonic() - began)


def rate(url: str, payloads: list[Callable[[int], bytes]], seconds: float = 3.0) -> float:
    """Answers a second over as many connections as there are payload makers."""
    try:
        import uvloop

        return uvloop.run(_run(url, payloads, seconds))
    except ImportError:
        return asyncio.run(_run(url, payloads, seconds))


def request(path: str, body: bytes, token: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
