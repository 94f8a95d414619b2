"""Asynchronous requests: `Prefer: respond-async` is answered 202 at once, the prediction is fetched later.

Accepted means on the disk: it is answered at least once, whatever is killed meanwhile.
"""

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from modelyard.deliver.serving.door import Headers
from modelyard.deliver.serving.errors import Refused, error_body
from modelyard.deliver.serving.routing import QueuePolicy, Routing
from modelyard.deliver.serving.waiting_store import DONE, QUEUED, Full, Waiting, WaitingStore
from modelyard.kit.clock import now_ms

FILE = "waiting.db"
PREFIX = "requests/"
PATH = re.compile(r"requests/(?P<id>[0-9a-f]{32})(?P<result>/result)?")
PREFER = re.compile(rb"(^|[,;\s])respond-async\s*($|[,;])", re.IGNORECASE)
NOT_KEPT = frozenset({b"authorization", b"cookie", b"prefer", b"host", b"content-length", b"transfer-encoding"})
LOOK_S = 0.5
"""How often an endpoint whose requests pause looks whether one is due."""
EXPIRE_S = 60.0
PAUSES_MS = (1_000, 5_000, 25_000)
LATER = frozenset({429, 503})
"""Nobody was asked: the endpoint is gone, full or without a worker. It waits, and that is no attempt."""
AGAIN = frozenset({504})
RawHeaders = list[tuple[bytes, bytes]]
Reply = tuple[int, RawHeaders, bytes]
T = TypeVar("T")


def wanted(headers: Headers) -> bool:
    """Whether the caller would rather fetch the answer later (RFC 7240)."""
    return PREFER.search(headers.get(b"prefer", b"")) is not None


class WaitingRequests:
    """The queue of one gateway. `predict` answers (endpoint, path below it, headers, body); it raises Refused."""

    def __init__(self, folder: Path, predict: Callable[[str, str, Headers, bytes, float], Awaitable[Reply]]) -> None:
        self._file, self._predict = folder / FILE, predict
        self._store: WaitingStore | None = None
        self._thread = ThreadPoolExecutor(1, "waiting")
        self._policies: dict[str, QueuePolicy] = {}
        self._running: dict[str, set[asyncio.Task[None]]] = {}
        self._expiring: asyncio.Task[None] | None = None

    def adopt(self, routing: Routing) -> None:
        """Follow the routing: the policies in force, and requests of an earlier process that now can be asked."""
        self._policies = {name: endpoint.queue for name, endpoint in routing.endpoints.items()}
        if self._store is not None or self._file.exists():
            for name in self._policies:
                self._start(name)

    async def accept(self, name: str, principal: str, path: str, headers: Headers, body: bytes) -> Reply:
        """202 once the request is on the disk. Raises Refused (429, 503)."""
        policy = self._policies.get(name, QueuePolicy())
        kept = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in headers.items() if key not in NOT_KEPT
        }
        most, expires = (policy.max_requests, policy.max_bytes), now_ms() + int(policy.keep_s * 1000)
        text = msgspec.json.encode(kept).decode()
        try:
            identity = await self._do(lambda store: store.add(name, principal, path, text, body, most, expires))
        except Full:
            raise Refused(429, "The endpoint's queue of asynchronous requests is full.", retry_after="5") from None
        self._start(name)
        shown = await self._do(lambda store: store.shown(name, principal, identity))
        return _pending(202, name, shown or {"id": identity, "state": QUEUED})

    async def told(self, method: str, name: str, principal: str, path: str) -> Reply:
        """The state of a request, its answer, or that it is forgotten (DELETE). Raises Refused (404, 405)."""
        found = PATH.fullmatch(path)
        shown = None
        if found and (self._store is not None or self._file.exists()):
            identity = found["id"]
            shown = await self._do(lambda store: store.shown(name, principal, identity))
        if found is None or shown is None or now_ms() > shown["expires_at"]:
            raise Refused(404, "There is no such asynchronous request of yours, or it has expired.")
        if method == "DELETE" and not found["result"]:
            await self._do(lambda store: store.forget(found["id"]))
            return 204, [], b""
        if method not in ("GET", "HEAD"):
            raise Refused(405, f"{path} is asked by GET; GET and DELETE go to its request.", allow="GET")
        if not found["result"]:
            return _pending(200, name, shown)
        answer = await self._do(lambda store: store.answer(found["id"]))
        if answer is None:
            return _pending(202, name, shown)
        status, headers, body = answer
        pairs = msgspec.json.decode(headers, type=list[tuple[str, str]])
        return status, [(key.encode("latin-1"), value.encode("latin-1")) for key, value in pairs], body

    async def lengths(self) -> dict[str, int]:
        """How many requests of each endpoint wait or are being answered. Raises Refused (503)."""
        if self._store is None and not self._file.exists():
            return dict.fromkeys(self._policies, 0)
        return {**dict.fromkeys(self._policies, 0), **await self._do(WaitingStore.lengths)}

    async def close(self) -> None:
        """Stop; what was being answered is taken up by the next process."""
        tasks = [task for held in self._running.values() for task in held]
        tasks += [self._expiring] if self._expiring is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._store is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()

    async def _do(self, work: Callable[[WaitingStore], T]) -> T:
        """Something with the store, in its thread. Raises Refused (503) when the disk does not take it."""

        def run() -> T:
            if self._store is None:
                self._store = WaitingStore(self._file)
            return work(self._store)

        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(self._thread, run)
        except sqlite3.Error as error:
            raise Refused(503, f"The queue of asynchronous requests cannot be used: {error}.") from None
        if self._expiring is None:
            self._expiring = asyncio.ensure_future(self._expire())
        return done

    def _start(self, name: str) -> None:
        """Have one more of the endpoint's requests answered at a time, up to what its policy allows."""
        held, policy = self._running.setdefault(name, set()), self._policies.get(name)
        if policy is not None and len(held) < policy.concurrency:
            task = asyncio.ensure_future(self._work_off(name))
            held.add(task)
            task.add_done_callback(held.discard)

    async def _work_off(self, name: str) -> None:
        """Answer the endpoint's requests until none waits."""
        while True:
            try:
                waiting = await self._do(lambda store: store.take(name))
                if waiting is None:
                    if not (await self._do(WaitingStore.lengths)).get(name):
                        return
                    await asyncio.sleep(LOOK_S)
                    continue
                await self._answer(waiting)
            except Refused:  # the disk is full or broken; it may be mended
                await asyncio.sleep(LOOK_S)

    async def _answer(self, waiting: Waiting) -> None:
        policy = self._policies.get(waiting.endpoint, QueuePolicy())
        if waiting.attempts > policy.attempts:
            body = error_body(waiting.path, 502, f"It was given up after {policy.attempts} attempts.")
            await self._finish(waiting, policy, 502, [(b"content-type", b"application/json")], body)
            return
        headers = msgspec.json.decode(waiting.headers, type=dict[str, str])
        given = {key.encode("latin-1"): value.encode("latin-1") for key, value in headers.items()}
        try:
            status, more, body = await self._predict(
                waiting.endpoint, waiting.path, given, waiting.body, policy.timeout_s
            )
        except Refused as refused:
            pause = PAUSES_MS[min(waiting.attempts, len(PAUSES_MS)) - 1]
            counted = refused.status in AGAIN and waiting.attempts < policy.attempts
            if counted or refused.status in LATER:
                back = partial(WaitingStore.put_back, identity=waiting.id, pause_ms=pause, counted=counted)
                await self._do(lambda store: back(store))
                return
            status, body = refused.status, error_body(waiting.path, refused.status, str(refused))
            more = [(name.replace("_", "-").encode(), value.encode()) for name, value in refused.headers.items()]
            more.append((b"content-type", b"application/json"))
        await self._finish(waiting, policy, status, more, body)

    async def _finish(
        self, waiting: Waiting, policy: QueuePolicy, status: int, headers: RawHeaders, body: bytes
    ) -> None:
        text = msgspec.json.encode([(key.decode("latin-1"), value.decode("latin-1")) for key, value in headers])
        expires = now_ms() + int(policy.keep_s * 1000)
        await self._do(lambda store: store.finish(waiting.id, status, text.decode(), body, expires))

    async def _expire(self) -> None:
        while True:
            try:
                await self._do(WaitingStore.expire)
            except Refused:  # the disk again
                pass
            await asyncio.sleep(EXPIRE_S)


def _pending(status: int, name: str, shown: dict[str, Any]) -> Reply:
    """A request's state as its caller is told."""
    where = f"/endpoints/{name}/{PREFIX}{shown['id']}"
    headers: RawHeaders = [(b"content-type", b"application/json"), (b"location", where.encode())]
    if status == 202:
        headers.append((b"preference-applied", b"respond-async"))
    if shown["state"] != DONE:
        headers.append((b"retry-after", b"1"))
    return status, headers, msgspec.json.encode({**shown, "result": f"{where}/result"})
