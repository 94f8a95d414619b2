"""The process that local workers are forked from: it has loaded the project's modules and runs none of their code.

It talks with the runner over one socket, in pickled messages with a length before each: (call id, None) when a call's
worker exists, (call id, exit code) when it has ended. When the socket closes, because the runner ended or was killed,
it kills every worker and ends.
"""

import contextlib
import ctypes  # noqa: F401 # pyright: ignore[reportUnusedImport] - for die_with_parent: once, not in each worker
import gc
import os
import pickle
import resource
import select
import signal
import socket
import struct
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from modelyard.build.pipelines.cache import Cache
from modelyard.build.pipelines.execution import Call, peak_mb, run_call
from modelyard.build.pipelines.freshness import open_project
from modelyard.domain.errors import ModelyardError, StepFailed
from modelyard.kit.processes import die_with_parent, kill_group, kill_tree, tree_memory

LENGTH = struct.Struct("!I")
WATCH_S = 0.2
"""How often the memory of steps that have a limit is looked at."""


def send(channel: socket.socket, message: Any) -> None:
    data = pickle.dumps(message)
    channel.sendall(LENGTH.pack(len(data)) + data)


def receive(channel: socket.socket) -> Any:
    """The next message. Raises EOFError when the other side is gone."""
    (length,) = LENGTH.unpack(_exactly(channel, LENGTH.size))
    return pickle.loads(_exactly(channel, length))


def _exactly(channel: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = channel.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def main() -> None:
    """Serve one runner: argv holds the socket's descriptor, the project, and the modules to load."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    project, answers = Path(sys.argv[2]), Path(sys.argv[3])
    open_project(project)
    _preload(project, sys.argv[4:])
    gc.collect()
    gc.freeze()  # a worker whose collector looked through what was loaded would copy all of it
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    workers: dict[int, Call] = {}
    try:
        while True:
            limited = any(call.memory for call in workers.values())
            ready, _, _ = select.select([channel, reading], [], [], WATCH_S if limited else None)
            if reading in ready:
                os.read(reading, 4096)
            _collect(channel, workers)
            _stop_the_greedy(workers, answers)
            if channel in ready:
                kind, content = receive(channel)
                if kind == "run":
                    workers[_fork(content, answers, channel, (reading, writing))] = content
                    send(channel, (content.id, None))
                else:
                    _stop(workers, content)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        for process in workers:
            kill_tree(process)


def _preload(project: Path, modules: list[str]) -> None:
    """Import what steps will need; what does not load is told by the step that needs it."""
    from modelyard.build.pipelines.project import load_module

    for item in modules:
        name, _, file = item.partition("=")
        with contextlib.suppress(ModelyardError, ImportError):
            if file:
                load_module(project, file, name)
            else:
                import_module(name)


def _fork(call: Call, answers: Path, channel: socket.socket, wakeup: tuple[int, int]) -> int:
    process = os.fork()
    if process:
        return process
    try:
        channel.close()
        signal.set_wakeup_fd(-1)
        for handle in wakeup:
            os.close(handle)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        die_with_parent(signal.SIGKILL)
        work(call, answers)
    finally:
        os._exit(70)


def work(call: Call, answers: Path) -> NoReturn:
    """Run a call in this process, leave its answer as a file, and exit."""
    _redirect(call.log)
    if call.memory is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (call.memory, call.memory))
    used = time.process_time()
    answer: Any
    try:
        cache = Cache(Path(call.cache))
        cache.trust(call.written)
        result = run_call(call, cache)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = time.process_time() - used + usage.ru_utime + usage.ru_stime
        answer = ("done", result._replace(cpu_seconds=cpu, peak_mb=peak_mb()))
    except MemoryError:
        answer = ("failed", (f"Step {call.node!r} ran out of memory.", "Raise the memory of its resources."))
    except StepFailed as error:
        answer = ("failed", (error.message, error.remedy))
    except KeyboardInterrupt:
        os._exit(130)
    _leave(answer, call, answers)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _leave(answer: Any, call: Call, answers: Path) -> None:
    temporary = answers / f".{call.id}.{os.getpid()}"
    temporary.write_bytes(pickle.dumps(answer))
    os.replace(temporary, answers / call.id)


def _stop_the_greedy(workers: dict[int, Call], answers: Path) -> None:
    """Kill each worker that uses more than its memory together with the processes that it started."""
    for process, call in workers.items():
        if call.memory is not None and tree_memory(process) > call.memory:
            limit = f"{call.memory >> 20} MiB"
            words = f"Step {call.node!r} used more than its memory of {limit}, with its processes, and was stopped."
            _leave(("failed", (words, "Raise the memory of its resources.")), call, answers)
            kill_tree(process)


def _redirect(log: str | None) -> None:
    """What the step prints, and what libraries in C print, goes to its log."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log else None
    if handle is not None:
        for stream in (1, 2):
            os.dup2(handle, stream)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)


def _collect(channel: socket.socket, workers: dict[int, Call]) -> None:
    """Tell the runner of every worker that ended, and clear away what it left running."""
    for process in list(workers):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            kill_group(process)
            send(channel, (workers.pop(process).id, os.waitstatus_to_exitcode(status)))


def _stop(workers: dict[int, Call], call_id: str) -> None:
    for process, call in workers.items():
        if call.id == call_id:
            kill_tree(process)


if __name__ == "__main__":
    main()
