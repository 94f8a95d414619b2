"""A process that is kept running."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelyard.kit.listening import Listening
from modelyard.kit.processes import die_with_parent

logger = logging.getLogger("modelyard.supervisor")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 15.0
STEADY_S, REFUSING_S = 10.0, 120.0
"""A process that ran this long is taken as well again: it is started without a pause. One that ended with 1 may have
needed that time to find that it cannot start.
"""
STOP_S = 10.0
FLAPS = 3
"""One that ended so often at once has its callers refused: they would wait for nothing."""


@dataclass
class Child:
    """`listening`: the socket that it accepts at, held while it starts again; `asked`: its end is on our word."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    listening: Listening | None = None
    longest_pause_s: float = LONGEST_PAUSE_S
    stop_s: float = STOP_S
    restarts: int = 0
    deaths: int = 0
    started_at: float = 0.0
    last_exit: int | None = None
    asked: bool = False
    process: "asyncio.subprocess.Process | None" = None
    task: "asyncio.Task[None] | None" = None

    def start(self) -> "Child":
        self.task = asyncio.ensure_future(self._keep())
        return self

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    async def _keep(self) -> None:
        """Run the process again and again: at once after a steady run, pausing longer while it fails at once."""
        pause = FIRST_PAUSE_S
        self.log.parent.mkdir(parents=True, exist_ok=True)
        while True:
            inherited = self._inherited()
            with self.log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *self.command,
                    *(argument for number in inherited for argument in ("--listen-fd", str(number))),
                    pass_fds=inherited,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(self.environment),
                    preexec_fn=die_with_parent,
                    start_new_session=True,
                )
            self.started_at, self.asked = time.monotonic(), False
            self.last_exit = await self.process.wait()
            self.restarts += 1
            self.deaths += 1
            lived = time.monotonic() - self.started_at
            if lived > (REFUSING_S if self.last_exit == 1 else STEADY_S):
                pause, self.restarts = 0.0, 0
                if not self.asked:
                    told = (self.name, self._how(), lived, self.log)
                    logger.warning("%s %s after %.0f s, and is started again; see %s", *told)
            elif self.listening is not None and self.restarts >= FLAPS:
                self.listening.close()
            await asyncio.sleep(pause)
            pause = min(max(pause * 2, FIRST_PAUSE_S), self.longest_pause_s)

    def _how(self) -> str:
        code = self.last_exit or 0
        return f"was ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with {code}"

    def _inherited(self) -> tuple[int, ...]:
        """The descriptor of the socket to accept at; none where the process has to make its own, and says why not."""
        try:
            return () if self.listening is None else (self.listening.descriptor(),)
        except OSError:
            return ()

    def begin_anew(self) -> None:
        """Let the process end; its next life begins at once, or after the pause of one that fails."""
        if self.process is not None and self.process.returncode is None:
            self.asked = True
            self.process.terminate()

    async def stop(self) -> None:
        """End the process: politely, then not."""
        if self.listening is not None:
            self.listening.close()
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
        if self.process is None or self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(self.stop_s):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
