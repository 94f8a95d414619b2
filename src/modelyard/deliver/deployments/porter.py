"""The porter: carries bodies between a gateway and object stores, so that the gateway has none of their credentials.

python -m modelyard.deliver.deployments.porter --folder DIR --socket PATH

It speaks to its own machine only, and goes nowhere but where the routing file lets an endpoint's requests go.
"""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

import msgspec

from modelyard.deliver.serving import frames
from modelyard.deliver.serving.errands import ERRANDS, Errand
from modelyard.deliver.serving.frames import AnswerMeta, Frame, FrameConnection
from modelyard.deliver.serving.routing import RoutingFile
from modelyard.domain import locations
from modelyard.domain.errors import Forbidden, MissingExtra, ModelyardError, NotFound, TooLarge, Unavailable
from modelyard.kit.processes import die_with_parent
from modelyard.store.objects.bucket import check_installed, kept_bucket, words

PURPOSE = "Taking asynchronous requests from S3"
logger = logging.getLogger("modelyard.porter")


class Porter:
    """Answers frames, each on its own."""

    def __init__(self, file: RoutingFile) -> None:
        self._file = file
        self._tasks: set[asyncio.Task[None]] = set()

    def on_frames(self, connection: FrameConnection, received: list[Frame]) -> None:
        self._file.refresh()
        for frame in received:
            task = asyncio.ensure_future(self._answer(connection, frame))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, connection: FrameConnection, frame: Frame) -> None:
        try:
            status, body = 200, await self._done(ERRANDS.decode(frame.meta), frame.body)
        except ModelyardError as error:
            status, body = error.status, str(error).encode()
            logger.warning("%s", error)
        except msgspec.DecodeError:
            connection.close()
            return
        meta = msgspec.json.encode(AnswerMeta(status, "text/plain"))
        connection.send(frames.encode(frame.id, frames.ANSWER, meta, body))

    async def _done(self, errand: Errand, body: bytes) -> bytes:
        """What was read; nothing of what was written. Raises NotFound, Forbidden, TooLarge, Unavailable."""
        routing = self._file.current
        endpoint = routing.endpoints.get(errand.endpoint) if routing is not None else None
        if endpoint is None:
            raise Unavailable(f"The endpoint {errand.endpoint} is not there.")
        queue = endpoint.queue
        allowed = queue.may_read(errand.location) if errand.do == "read" else queue.may_write(errand.location)
        where = locations.split(errand.location)
        if where is None or not allowed:
            raise Forbidden(f"{errand.location} is no place to {errand.do} for {errand.endpoint}.")
        from obstore import exceptions  # late: an extra, whose absence `main` told

        try:
            if errand.do == "read":
                return await _read(*where, queue.max_input_bytes)
            await _write(*where, errand.type, body)
        except FileNotFoundError:
            raise NotFound(f"There is no {errand.location}.") from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise Forbidden(f"The store denies to {errand.do} {errand.location}: {words(error)}.") from error
        except (exceptions.BaseError, OSError) as error:
            raise Unavailable(f"No {errand.do} of {errand.location}: {words(error)}.") from error
        return b""


async def _read(bucket: str, key: str, most: int) -> bytes:
    import obstore  # late: see above

    found = await obstore.get_async(kept_bucket(bucket, what=PURPOSE), key)
    if found.meta["size"] > most:
        raise TooLarge(f"s3://{bucket}/{key} has {found.meta['size']} bytes; at most {most} are read.")
    return bytes(await found.bytes_async())


async def _write(bucket: str, key: str, type: str, body: bytes) -> None:
    import obstore  # late: see above

    await obstore.put_async(kept_bucket(bucket, what=PURPOSE), key, body, attributes={"Content-Type": type})


async def serve(porter: Porter, socket: Path) -> None:
    """Until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket.unlink(missing_ok=True)
    server = await loop.create_unix_server(lambda: FrameConnection(porter.on_frames, lambda: None), str(socket))
    socket.chmod(0o600)
    await stop.wait()
    server.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="carry bodies of asynchronous requests to and from object stores")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    arguments = parser.parse_args()
    die_with_parent()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        check_installed(PURPOSE)
    except MissingExtra as error:
        logger.error("%s", error)
        return 1
    asyncio.run(serve(Porter(RoutingFile(arguments.folder / "routing.json")), arguments.socket))
    return 0


if __name__ == "__main__":
    sys.exit(main())
