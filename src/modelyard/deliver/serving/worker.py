"""A worker: one isolated process that serves one version over a Unix socket.

python -m modelyard.deliver.serving.worker --spec worker.json
"""

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.serving import describe, far, frames, paths
from modelyard.deliver.serving.frames import AnswerMeta, Frame, FrameConnection
from modelyard.deliver.serving.loading import check_manifest, load
from modelyard.deliver.serving.predictor import Predictor
from modelyard.deliver.serving.spec import WorkerSpec
from modelyard.domain.errors import ModelyardError
from modelyard.kit import garbage
from modelyard.kit.files import atomic_write
from modelyard.kit.processes import die_with_parent

DRAIN_S = 30.0
"""How long a worker that was told to stop goes on answering what it has received."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
logger = logging.getLogger("modelyard.worker")
encode_meta = msgspec.json.Encoder().encode


class Worker:
    """Answers frames by its predictor."""

    def __init__(self, spec: WorkerSpec, predictor: Predictor) -> None:
        self._spec, self._predictor = spec, predictor
        self._answered = 0

    def on_frames(self, connection: FrameConnection, received: list[Frame]) -> None:
        for frame in received:
            if frame.kind == frames.PING:
                connection.send(frames.encode(frame.id, frames.PONG, b"", msgspec.json.encode(self._state())))
            elif frame.kind == frames.REQUEST:
                self._take(connection, frame)

    def _take(self, connection: FrameConnection, frame: Frame) -> None:
        try:
            meta = frame.request()
        except msgspec.DecodeError:
            connection.close()
            return
        reply = partial(self._reply, connection, frame.id)
        asked = paths.resolve(meta.path)
        if asked.predicts:
            self._predictor.take(asked, meta, frame.body, reply)
        else:
            status, answer = describe.answer(self._predictor, meta.path)
            reply(AnswerMeta(status, answer.type), answer.body)

    def _reply(self, connection: FrameConnection, number: int, meta: AnswerMeta, body: bytes) -> None:
        connection.send(frames.encode(number, frames.ANSWER, encode_meta(meta), body))
        self._answered += 1

    def _state(self) -> dict[str, Any]:
        return {
            "ready": True,
            "pid": os.getpid(),
            "deployment": self._spec.deployment,
            "version": self._spec.version,
            "answered": self._answered,
            "rss_mb": resident_mb(),
            "memory_mb": self._spec.memory_mb,
        }

    async def serve(self) -> None:
        """Listen until SIGTERM, then answer what was received and stop."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGINT, stop.set)
        path = Path(self._spec.socket)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.unlink(missing_ok=True)
        server = await self._listen(path)
        own = path.stat().st_ino
        await stop.wait()
        server.close()
        end = loop.time() + DRAIN_S
        await asyncio.sleep(0.05)  # one more turn for frames that were on their way
        while not self._predictor.idle and loop.time() < end:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)  # the last answers leave with the loop's next turn
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == own:  # otherwise a successor has taken its place
                path.unlink()

    async def _listen(self, path: Path) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if not self._spec.host:
            server = await loop.create_unix_server(lambda: FrameConnection(self.on_frames, lambda: None), str(path))
            path.chmod(0o600)
            return server
        secret = bytes.fromhex(self._spec.secret)
        server = await loop.create_server(
            lambda: far.GuardedConnection(secret, self.on_frames, lambda: None), self._spec.host, 0
        )
        port: int = server.sockets[0].getsockname()[1]
        atomic_write(path, str(port).encode(), durable=False)
        return server


def resident_mb() -> float:
    """Resident memory of this process; 0 where the kernel does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / (1 << 20)
    except (OSError, IndexError):
        return 0.0


def limit_memory(memory_mb: int | None) -> None:
    """Let the kernel refuse this process more than that much private memory."""
    if memory_mb is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))


def run(main: Any) -> None:
    """Run a coroutine on the fastest event loop that this environment has."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def main() -> int:
    parser = argparse.ArgumentParser(description="serve one model version")
    parser.add_argument("--spec", type=Path, required=True)
    arguments = parser.parse_args()
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    spec = msgspec.json.decode(arguments.spec.read_bytes(), type=WorkerSpec)
    try:
        limit_memory(spec.memory_mb)
        check_manifest(Path(spec.model_dir), spec.manifest)
        loaded = load(Path(spec.model_dir))
    except ModelyardError as error:
        logger.error("%s v%s cannot be served: %s", spec.model, spec.version, error)
        return 1
    except MemoryError:
        logger.error("%s v%s needs more than its %s MB of memory.", spec.model, spec.version, spec.memory_mb)
        return 1
    worker = Worker(spec, Predictor(loaded, spec.model, str(spec.version), spec.max_batch_rows))
    garbage.settle()
    run(worker.serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
