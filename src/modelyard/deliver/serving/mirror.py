"""Shadow traffic: requests asked of further deployments, after the answer left; they delay and fail nothing."""

import asyncio
from collections.abc import Callable

from modelyard.deliver.serving import frames
from modelyard.deliver.serving.frames import AnswerMeta, Frame
from modelyard.deliver.serving.routing import Target
from modelyard.deliver.serving.stats import Counters
from modelyard.deliver.serving.upstream import Pool, WorkerLost

PATIENCE_S = 10.0
Answered = Callable[[Target, AnswerMeta, bytes, float], None]


class Shadows:
    """At most so many at once; what is more is dropped and counted."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._running: set[asyncio.Task[None]] = set()

    def ask(
        self,
        target: Target,
        meta: bytes,
        body: bytes,
        primary: Frame,
        counters: Counters,
        most: int,
        answered: Answered,
    ) -> None:
        """Ask a shadow deployment and compare its answer with the primary's; `answered` gets what it said."""
        if len(self._running) >= most or not target.sockets:
            counters.shadow_dropped += len(self._running) >= most
            counters.shadow_requests += not target.sockets
            counters.shadow_errors += not target.sockets
            return
        task = asyncio.ensure_future(self._mirror(target, meta, body, primary, counters, answered))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _mirror(
        self, target: Target, meta: bytes, body: bytes, primary: Frame, counters: Counters, answered: Answered
    ) -> None:
        loop = asyncio.get_running_loop()
        counters.shadow_requests += 1
        started = loop.time()
        try:
            upstream = self._pool.of(target.sockets)
            answer = await upstream.ask(frames.REQUEST, meta, body, started + PATIENCE_S)
        except (WorkerLost, TimeoutError):
            counters.shadow_errors += 1
            return
        described = answer.answer()
        counters.shadow_errors += described.status >= 500
        counters.shadow_declined += described.declined
        if described.status == 200 and primary.answer().status == 200:
            counters.shadow_compared += 1
            counters.shadow_equal += answer.body == primary.body
        answered(target, described, answer.body, loop.time() - started)
