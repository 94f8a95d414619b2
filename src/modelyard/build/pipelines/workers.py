"""The local executor: warm worker processes, each forked for one call, each stopped with all that it started."""

import contextlib
import os
import pickle
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from modelyard.build.pipelines.execution import Call, Done
from modelyard.build.pipelines.zygote import receive, send
from modelyard.domain.errors import ModelyardError, StepFailed
from modelyard.kit.processes import kill_tree


class LocalWorkers:
    """Implements `Executor` with up to `most` worker processes at once."""

    remote = False

    def __init__(self, project: Path, modules: list[str], most: int) -> None:
        self._project, self._modules, self._most = project, modules, most
        self._zygotes: dict[str, _Zygote] = {}
        self._running: dict[str, _Running] = {}
        self._answers = Path(tempfile.mkdtemp(prefix="modelyard-"))

    @property
    def free(self) -> int:
        return self._most - len(self._running)

    def start(self, call: Call) -> None:
        zygote = self._zygote(call.python or sys.executable)
        self._running[call.id] = _Running(call, zygote)
        try:
            send(zygote.channel, ("run", call))
        except (BrokenPipeError, ConnectionResetError):
            zygote.failed = True

    def _zygote(self, python: str) -> "_Zygote":
        held = self._zygotes.get(python)
        if held is None or held.failed:
            held = self._zygotes[python] = _Zygote(python, self._project, self._answers, self._modules)
        return held

    def poll(self, wait_s: float) -> list[Done]:
        """The calls that ended, waiting up to `wait_s` for the first."""
        now = time.monotonic()
        deadlines = [job.deadline - now for job in self._running.values() if job.deadline is not None]
        alive = {zygote.channel: zygote for zygote in self._zygotes.values() if not zygote.failed}
        ready, _, _ = select.select(list(alive), [], [], max(0.0, min([wait_s, *deadlines])))
        ended: list[Done] = []
        for channel in ready:
            try:
                call_id, code = receive(channel)
                if code is None:
                    self._running[call_id].starts()
                else:
                    ended.append(self._done(call_id, code))
            except (EOFError, ConnectionResetError):
                alive[channel].failed = True
        lost = [job for job in self._running.values() if job.zygote.failed]
        return [*ended, *self._expired(), *(self._lost(job) for job in lost)]

    def _done(self, call_id: str, code: int) -> Done:
        job = self._running.pop(call_id)
        name, answer = job.call.node, self._answers / call_id
        if job.expired:
            return Done(call_id, None, _too_long(job.call))
        try:
            kind, value = pickle.loads(answer.read_bytes())
        except FileNotFoundError:
            limit = f" (memory limit {job.call.memory >> 20} MiB)" if job.call.memory else ""
            how = f"died, killed by {signal.Signals(-code).name}" if code < 0 else f"died with exit code {code}"
            return Done(call_id, None, _died(name, f"{how}{limit}"))
        answer.unlink()
        if kind == "failed":
            return Done(call_id, None, StepFailed(value[0], remedy=value[1]))
        return Done(call_id, value)

    def _expired(self) -> list[Done]:
        for job in self._running.values():
            if job.deadline is not None and time.monotonic() > job.deadline and not job.expired:
                job.expired = True
                send(job.zygote.channel, ("stop", job.call.id))
        return []

    def _lost(self, job: "_Running") -> Done:
        del self._running[job.call.id]
        return Done(job.call.id, None, _died(job.call.node, "lost its worker processes"))

    def close(self) -> None:
        """Stop every call that runs, and the workers."""
        for zygote in self._zygotes.values():
            zygote.close()
        shutil.rmtree(self._answers, ignore_errors=True)


class _Running:
    """A call under way. Its time counts from when its worker exists: loading the project takes none of it."""

    def __init__(self, call: Call, zygote: "_Zygote") -> None:
        self.call, self.zygote = call, zygote
        self.deadline: float | None = None
        self.expired = False

    def starts(self) -> None:
        if self.call.timeout_s is not None:
            self.deadline = time.monotonic() + self.call.timeout_s


class _Zygote:
    """The process that workers of one interpreter are forked from."""

    def __init__(self, python: str, project: Path, answers: Path, modules: list[str]) -> None:
        self.channel, theirs = socket.socketpair()
        self.failed = False
        command = [python, "-m", "modelyard.build.pipelines.zygote", str(theirs.fileno())]
        environment: dict[str, Any] = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [*command, str(project), str(answers), *modules],
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        theirs.close()

    def close(self) -> None:
        """Kill the workers, then their parent."""
        kill_tree(self._process.pid)
        with contextlib.suppress(OSError):
            self.channel.close()
        self._process.wait()


def _too_long(call: Call) -> ModelyardError:
    return StepFailed(
        f"Step {call.node!r} took longer than its timeout of {call.timeout_s:g} s and was stopped.",
        remedy="Raise the timeout in its @step, or make it faster.",
    )


def _died(name: str, how: str) -> ModelyardError:
    return StepFailed(
        f"Step {name!r} {how}.",
        remedy="It may have run out of memory, or was killed. Run again to go on from here.",
    )
