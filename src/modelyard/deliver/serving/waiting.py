"""Asynchronous requests: `Prefer: respond-async` is answered 202 at once, the prediction is fetched later.

In SageMaker's shape (`waiting_located`) input and answer are objects of a store. Accepted means on the disk: it is
answered at least once, whatever is killed meanwhile.
"""

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from modelyard.deliver.serving import door
from modelyard.deliver.serving.door import Headers
from modelyard.deliver.serving.errands import Porter
from modelyard.deliver.serving.errors import Refused, error_body
from modelyard.deliver.serving.routing import QueuePolicy, Routing
from modelyard.deliver.serving.waiting_located import ERRORS, Located, asking, inference_id, locate
from modelyard.deliver.serving.waiting_replies import RawHeaders, Reply, decoded, encoded, pending, place
from modelyard.deliver.serving.waiting_store import QUEUED, RUNNING, Full, Waiting, WaitingStore
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id

FILE = "waiting.db"
PATH = re.compile(r"requests/(?P<id>[0-9a-f]{32})(?P<result>/result)?")
PREFER = re.compile(rb"(^|[,;\s])respond-async\s*($|[,;])", re.IGNORECASE)
NOT_KEPT = frozenset(
    {b"authorization", door.SESSION, b"cookie", b"prefer", b"host", b"content-length", b"transfer-encoding"}
)
LOOK_S = 0.5
"""How often an endpoint whose requests pause looks whether one is due."""
EXPIRE_S = 60.0
PAUSES_MS = (1_000, 5_000, 25_000)
LATER = frozenset({429, 503})
"""Nobody was asked: the endpoint is gone, full or without a worker. It waits, and that is no attempt."""
AGAIN = frozenset({504})
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
        self._porter = Porter("")
        self.errors: dict[str, str] = {}
        """By endpoint, why its newest object could not be read or written; such requests wait."""

    def adopt(self, routing: Routing) -> None:
        """Follow the routing: the policies in force, and requests of an earlier process that now can be asked."""
        self._policies = {name: endpoint.queue for name, endpoint in routing.endpoints.items()}
        if routing.porter != self._porter.socket:
            self._porter.close()
            self._porter = Porter(routing.porter)
        if self._store is not None or self._file.exists():
            for name in self._policies:
                self._start(name)

    async def accept(self, name: str, principal: str, path: str, headers: Headers, body: bytes) -> Reply:
        """202 once the request is on the disk. Raises Refused (429, 503)."""
        identity = new_id()
        await self._take(identity, name, principal, path, headers, body)
        shown = await self._do(lambda store: store.shown(name, principal, identity))
        return pending(202, name, shown or {"id": identity, "state": QUEUED})

    async def accept_located(self, name: str, principal: str, headers: Headers, body: bytes) -> Reply:
        """The same in SageMaker's shape. Raises Refused (400, 429, 503)."""
        identity = new_id()
        try:
            located = locate(self._policies.get(name, QueuePolicy()), identity, headers, body)
            caller = inference_id(headers, identity)
            await self._take(identity, name, principal, "invocations", asking(headers, caller), body, located)
        except Refused as refused:
            refused.headers["x_amzn_errortype"] = ERRORS[refused.status]
            raise
        more = [
            (b"content-type", b"application/json"),
            (b"location", place(name, identity).encode()),
            (b"x-amzn-sagemaker-outputlocation", located.output.encode()),
            (b"x-amzn-sagemaker-failurelocation", located.failure.encode()),
        ]
        return 202, more, msgspec.json.encode({"InferenceId": caller})

    async def _take(
        self, identity: str, name: str, principal: str, path: str, headers: Headers, body: bytes,
        located: Located | None = None,
    ) -> None:  # fmt: skip
        """Put a request on the disk and have it answered. Raises Refused (429, 503)."""
        policy = self._policies.get(name, QueuePolicy())
        kept = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in headers.items() if key not in NOT_KEPT
        }
        most, expires = (policy.max_requests, policy.max_bytes), now_ms() + int(policy.keep_s * 1000)
        text = msgspec.json.encode(kept).decode()
        where = None if located is None else msgspec.json.encode(located).decode()
        expires += 0 if located is None else located.gives_up_ms  # the failure is to be written after that
        try:
            await self._do(lambda store: store.add(identity, name, principal, path, text, body, most, expires, where))
        except Full:
            raise Refused(429, "The endpoint's queue of asynchronous requests is full.", retry_after="5") from None
        self._start(name)

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
            return pending(200, name, shown)
        answer = await self._do(lambda store: store.answer(found["id"]))
        return pending(202, name, shown) if answer is None else decoded(answer)

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
        self._porter.close()
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
        """Have a request answered, and its answer delivered, or both tried again later."""
        policy = self._policies.get(waiting.endpoint, QueuePolicy())
        located = msgspec.json.decode(waiting.located, type=Located) if waiting.located else None
        reply = await self._held(waiting) if waiting.answered else await self._reply(waiting, policy, located)
        if reply is None:
            return
        if located is not None:
            if not waiting.answered:
                await self._hold(waiting, reply)
            reply = await self._delivered(waiting, located, reply)
        if reply is not None:
            await self._finish(waiting, policy, *reply)

    async def _reply(self, waiting: Waiting, policy: QueuePolicy, located: Located | None) -> Reply | None:
        """What a request is answered, be it an error; None when it is to be taken again."""
        try:
            if waiting.attempts > policy.attempts:
                raise Refused(502, f"It was given up after {policy.attempts} attempts.")
            headers = msgspec.json.decode(waiting.headers, type=dict[str, str])
            given = {key.encode("latin-1"): value.encode("latin-1") for key, value in headers.items()}
            if located is None:
                return await self._predict(waiting.endpoint, waiting.path, given, waiting.body, policy.timeout_s)
            if now_ms() > waiting.queued_at + located.gives_up_ms:
                raise Refused(410, f"It waited for longer than {located.gives_up_ms // 1000} s.")
            body = await self._input(waiting, located)
            return await self._predict(waiting.endpoint, waiting.path, given, body, located.timeout_s)
        except Refused as refused:
            counted = refused.status in AGAIN and waiting.attempts < policy.attempts
            if counted or refused.status in LATER:
                await self._put_back(waiting, counted=counted)
                return None
            more = [(name.replace("_", "-").encode(), value.encode()) for name, value in refused.headers.items()]
            more.append((b"content-type", b"application/json"))
            return refused.status, more, error_body(waiting.path, refused.status, str(refused))

    async def _input(self, waiting: Waiting, located: Located) -> bytes:
        """The body of a prediction. Raises Refused."""
        if not located.input:
            return waiting.body
        try:
            return await self._porter.read(waiting.endpoint, located.input)
        except Refused as refused:
            if refused.status in LATER:
                self.errors[waiting.endpoint] = str(refused)
            raise

    async def _delivered(self, waiting: Waiting, located: Located, reply: Reply) -> Reply | None:
        """Where an answer was written; None when that is to be tried again, until the request expires."""
        status, headers, body = reply
        where = located.output if status < 400 else located.failure
        try:
            await self._porter.write(waiting.endpoint, where, dict(headers)[b"content-type"].decode("latin-1"), body)
        except Refused as refused:
            self.errors[waiting.endpoint] = str(refused)
            await self._put_back(waiting, counted=False)
            return None
        self.errors.pop(waiting.endpoint, None)
        more = [pair for pair in headers if pair[0] != b"content-type"] + [(b"content-type", b"application/json")]
        return status, more, msgspec.json.encode({"written_to": where})

    async def _put_back(self, waiting: Waiting, *, counted: bool) -> None:
        pause = PAUSES_MS[min(waiting.attempts, len(PAUSES_MS)) - 1]
        if waiting.located and waiting.endpoint in self.errors:  # its store is away: asked less often, the longer
            pause = max(PAUSES_MS[0], min(PAUSES_MS[-1], (now_ms() - waiting.queued_at) // 10))
        back = partial(WaitingStore.put_back, identity=waiting.id, pause_ms=pause, counted=counted)
        await self._do(lambda store: back(store))

    async def _hold(self, waiting: Waiting, reply: Reply) -> None:
        status, headers, body = reply
        text = encoded(headers)
        await self._do(lambda store: store.hold(waiting.id, status, text, body))

    async def _held(self, waiting: Waiting) -> Reply | None:
        """The answer that is still to be delivered; None when the request was forgotten meanwhile."""
        found = await self._do(lambda store: store.answer(waiting.id, RUNNING))
        return None if found is None else decoded(found)

    async def _finish(
        self, waiting: Waiting, policy: QueuePolicy, status: int, headers: RawHeaders, body: bytes
    ) -> None:
        text, expires = encoded(headers), now_ms() + int(policy.keep_s * 1000)
        await self._do(lambda store: store.finish(waiting.id, status, text, body, expires))

    async def _expire(self) -> None:
        while True:
            try:
                await self._do(WaitingStore.expire)
            except Refused:  # the disk again
                pass
            await asyncio.sleep(EXPIRE_S)
