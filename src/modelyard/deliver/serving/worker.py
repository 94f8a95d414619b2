"""A worker: one isolated process that serves one version over a Unix socket.

python -m modelyard.deliver.serving.worker --spec worker.json
"""

import argparse
import asyncio
import logging
import os
import secrets
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.serving import frames, protocols
from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.frames import Frame, FrameConnection
from modelyard.deliver.serving.loading import Loaded, check_manifest, load
from modelyard.deliver.serving.protocols import Parsed
from modelyard.deliver.serving.spec import WorkerSpec
from modelyard.domain.errors import ModelyardError
from modelyard.kit.processes import die_with_parent

MOST_BATCH_ROWS = 4096
JSON = "application/json"
logger = logging.getLogger("modelyard.worker")
Waiting = tuple[FrameConnection, Frame, Parsed, float]


class Worker:
    """Answers frames; what one read of the sockets brought is predicted in one call of the model."""

    def __init__(self, spec: WorkerSpec, loaded: Loaded) -> None:
        self._spec, self._loaded = spec, loaded
        self._waiting: list[Waiting] = []
        self._answered = 0

    def on_frames(self, connection: FrameConnection, received: list[Frame]) -> None:
        for frame in received:
            if frame.kind == frames.PING:
                connection.send(frames.encode(frame.id, frames.PONG, b"", msgspec.json.encode(self._state())))
            elif frame.kind == frames.REQUEST:
                self._take(connection, frame)

    def _take(self, connection: FrameConnection, frame: Frame) -> None:
        started = time.perf_counter()
        meta = frame.meta_json()
        path: str = meta["path"]
        try:
            if path == "invocations":
                parsed = protocols.parse_invocation(frame.body, meta.get("type", JSON), self._loaded.signature)
            elif path.startswith("v2") and path.endswith("/infer"):
                version = str(self._spec.version)
                parsed = protocols.parse_v2(frame.body, self._loaded.signature, self._spec.model, version)
            else:
                self._describe(connection, frame, path)
                return
        except BadInput as error:
            self._send(connection, frame, error.status, _error(path, str(error), error.status), "")
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._predict)
        self._waiting.append((connection, frame, parsed, started))

    def _describe(self, connection: FrameConnection, frame: Frame, path: str) -> None:
        """Answer what needs no prediction: health, version, metadata."""
        model, version = self._spec.model, str(self._spec.version)
        plain = {
            "ping": b"\n",
            "health": b"\n",
            "version": version.encode(),
            "v2": msgspec.json.encode({"name": "modelyard", "version": "2", "extensions": []}),
            "v2/health/live": b'{"live":true}',
            "v2/health/ready": b'{"ready":true,"live":true}',
        }
        if path in plain:
            self._send(connection, frame, 200, plain[path], "")
            return
        named = {f"v2/models/{model}", f"v2/models/{model}/versions/{version}"}
        if path in named:
            self._send(connection, frame, 200, protocols.describe_v2(model, version, self._loaded.signature), "")
        elif path.removesuffix("/ready") in named:
            self._send(connection, frame, 200, msgspec.json.encode({"name": model, "ready": True}), "")
        else:
            self._send(connection, frame, 404, _error(path, f"There is nothing at {path!r}.", 404), "")

    def _predict(self) -> None:
        """Predict everything that waits, at most MOST_BATCH_ROWS rows a call."""
        waiting, self._waiting = self._waiting, []
        batch: list[Waiting] = []
        rows = 0
        for item in waiting:
            if batch and rows + item[2].rows > MOST_BATCH_ROWS:
                self._run(batch)
                batch, rows = [], 0
            batch.append(item)
            rows += item[2].rows
        if batch:
            self._run(batch)

    def _run(self, batch: list[Waiting]) -> None:
        started = time.perf_counter()
        try:
            answers = self._answers(batch)
        except Exception as error:  # noqa: BLE001 - a model may raise anything; it is answered with an id
            if len(batch) > 1:  # one bad request must not fail its neighbours: each on its own
                for item in batch:
                    self._run([item])
                return
            connection, frame, _, _ = batch[0]
            error_id = secrets.token_hex(6)
            logger.error("error %s: %s", error_id, "".join(traceback.format_exception(error)))
            message = f"The model raised an error (id {error_id}); its trace is in the worker's log."
            self._send(connection, frame, 500, _error(frame.meta_json()["path"], message, 500), "")
            return
        took = (time.perf_counter() - started) * 1000
        for (connection, frame, _, arrived), body in zip(batch, answers, strict=True):
            timing = f"queue;dur={(started - arrived) * 1000:.2f}, predict;dur={took:.2f}"
            self._send(connection, frame, 200, body, timing)

    def _answers(self, batch: list[Waiting]) -> list[bytes]:
        full = [item[2] for item in batch if item[2].rows]
        if not full:
            return [item[2].answer([]) for item in batch]
        if len(full) == 1:
            predictions = self._loaded.predict(full[0].columns)
        else:
            merged = {name: [v for part in full for v in part.columns[name]] for name in full[0].columns}
            predictions = self._loaded.predict(merged)
        if len(predictions) != sum(part.rows for part in full):
            raise ValueError(f"the model answered {len(predictions)} rows for {sum(part.rows for part in full)}")
        answers: list[bytes] = []
        start = 0
        for item in batch:
            end = start + item[2].rows
            answers.append(item[2].answer(predictions[start:end] if item[2].rows else []))
            start = end
        return answers

    def _send(self, connection: FrameConnection, frame: Frame, status: int, body: bytes, timing: str) -> None:
        meta = msgspec.json.encode({"status": status, "type": JSON, "timing": timing})
        connection.send(frames.encode(frame.id, frames.ANSWER, meta, body))
        self._answered += 1

    def _state(self) -> dict[str, Any]:
        return {
            "ready": True,
            "pid": os.getpid(),
            "deployment": self._spec.deployment,
            "version": self._spec.version,
            "answered": self._answered,
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
        server = await loop.create_unix_server(lambda: FrameConnection(self.on_frames, lambda: None), str(path))
        path.chmod(0o600)
        await stop.wait()
        server.close()
        await asyncio.sleep(0.05)  # one more turn for frames that were on their way
        path.unlink(missing_ok=True)


def _error(path: str, message: str, status: int) -> bytes:
    if path.startswith("v2"):
        return msgspec.json.encode({"error": message})
    code = {404: "RESOURCE_DOES_NOT_EXIST", 500: "INTERNAL_ERROR"}.get(status, "BAD_REQUEST")
    return msgspec.json.encode({"error_code": code, "message": message})


def main() -> int:
    parser = argparse.ArgumentParser(description="serve one model version")
    parser.add_argument("--spec", type=Path, required=True)
    arguments = parser.parse_args()
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    spec = msgspec.json.decode(arguments.spec.read_bytes(), type=WorkerSpec)
    try:
        check_manifest(Path(spec.model_dir), spec.manifest)
        loaded = load(Path(spec.model_dir))
    except ModelyardError as error:
        logger.error("%s v%s cannot be served: %s", spec.model, spec.version, error)
        return 1
    asyncio.run(Worker(spec, loaded).serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
