"""The prediction log's writing side: CRC-framed segments, written in batches, never in the way of an answer.

What a `kill -9` can lose is what FLUSH_S gathered; what a power cut can lose is SYNC_S.
With `durable` an answer waits until its record is on the disk, and neither loses anything that was answered.
"""

import asyncio
import errno
import logging
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from modelyard.deliver.serving.redaction import redact
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id

FRAME = struct.Struct("<II")
SEGMENT_BYTES = 8 << 20
SEGMENT_S = 60.0
FLUSH_S, FLUSH_BYTES = 0.02, 32 << 10
"""What waits is written after so long, or when its bodies are so large: memory that is still hot is used again."""
SYNC_S = 1.0
MOST_KEPT = 1 << 20
OPEN, SEALED = ".open", ".segment"
PARQUET, UNREAD = "parquet", "unread"
logger = logging.getLogger("modelyard.gateway")


class Record(msgspec.Struct, array_like=True, gc=False):
    """One answered request: bodies undecoded; times in milliseconds since the epoch, latency in microseconds.

    named: the request itself said which deployment it wants, so it is no sample of the endpoint's traffic.
    """

    id: str
    caller_id: str
    time: int
    deployment: str
    version: int
    status: int
    latency_us: int
    path: str
    content_type: str
    request: bytes
    answer: bytes
    answer_json_length: int | None = None
    request_json_length: int | None = None
    named: bool = False
    answer_type: str = "application/json"


class PredictionLog:
    """Appends records of one endpoint; call `close` to seal what is open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in folder.glob(f"*{OPEN}"):  # of a killed gateway: whole up to its last frame
            left.rename(left.with_suffix(SEALED))
        self._encoder = msgspec.msgpack.Encoder()
        self._frame = bytearray()
        self._waiting: list[Record] = []
        self._waiting_bytes = 0
        self._flushed = 0.0
        self._timed = False
        self._file: int | None = None
        self._path = folder
        self._size = 0
        self._opened = 0.0
        self._full: list[tuple[int, Path]] = []
        self._durable: list[tuple[asyncio.Future[None], int]] = []
        self._before: int | None = None
        """How many were dropped before the newest record came, until an answer waits for it."""
        self._syncing: asyncio.Task[None] | None = None
        self.redact: tuple[str, ...] = ()
        self.columns: dict[str, tuple[str, ...]] = {}
        """Those of each deployment's model, in their order, where some are left out."""
        self.dropped = 0
        self.error = ""
        """Why the newest write was refused; empty once one succeeds."""

    def add(self, record: Record) -> None:
        """Take a record; it is written at once, or FLUSH_S after others; one that cannot be is counted."""
        self._before = self.dropped
        self._waiting.append(record)
        self._waiting_bytes += len(record.request) + len(record.answer)
        if self._waiting_bytes >= FLUSH_BYTES:
            self.flush()
        elif not self._timed:
            self._timed = True
            loop = asyncio.get_running_loop()
            loop.call_at(max(loop.time(), self._flushed + FLUSH_S), self._flush_in_time)

    def _flush_in_time(self) -> None:
        self._timed = False
        self.flush()

    def flush(self) -> None:
        """Write what waits with one system call. A refused write (full disk) is counted."""
        records, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not records:
            return
        self._flushed = time.monotonic()  # the loop's clock
        if self.redact:
            records = [redacted(record, self.redact, self.columns.get(record.deployment, ())) for record in records]
        frame = self._frame
        self._encoder.encode_into(records, frame, FRAME.size)
        FRAME.pack_into(frame, 0, len(frame) - FRAME.size, zlib.crc32(memoryview(frame)[FRAME.size :]))
        if not self._write(frame):
            self.dropped += len(records)
            return
        self._size += len(frame)
        if len(frame) > MOST_KEPT:
            self._frame = bytearray()
        if self._size >= SEGMENT_BYTES:
            self._turn_over()

    def durable(self) -> asyncio.Future[None]:
        """A future that is done when the record just added, and all before, are on the disk; one sync serves all.

        It fails with OSError when that record could not be taken or the disk refuses the write.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        before, self._before = self.dropped if self._before is None else self._before, None
        self._durable.append((future, before))
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.ensure_future(self._sync_durable())
        return future

    async def _sync_durable(self) -> None:
        while self._durable:
            waiting, self._durable = self._durable, []
            refused = ""
            self.flush()
            dropped = self.dropped
            try:
                await self._sync()
            except OSError as error:
                refused = str(error)
            for future, before in waiting:
                if future.done():
                    continue
                if refused or dropped != before:
                    future.set_exception(OSError(refused or "the prediction log could not be written"))
                else:
                    future.set_result(None)

    async def keep(self) -> None:
        """Sync every SYNC_S in a thread; seal a segment that is old."""
        while True:
            await asyncio.sleep(SYNC_S)
            if self._file is not None and now_ms() / 1000 - self._opened > SEGMENT_S:
                self._turn_over()
            try:
                await self._sync()
            except OSError:
                continue  # the next write finds the same disk, and counts what it refuses

    async def _sync(self) -> None:
        """Bring what was written to the disk; full segments get their final name."""
        full, self._full = self._full, []
        open_file = os.dup(self._file) if self._file is not None else None
        if full or open_file is not None:
            await asyncio.to_thread(_settle, full, open_file)

    def close(self) -> None:
        """Write, sync and seal everything."""
        self.flush()
        if self._file is not None:
            self._turn_over()
        full, self._full = self._full, []
        _settle(full, None)

    def _turn_over(self) -> None:
        """Take leave of the open segment; it is synced and sealed with the next sync."""
        assert self._file is not None
        self._full.append((self._file, self._path))
        self._file = None

    def _write(self, data: bytearray) -> bool:
        try:
            if self._file is None:
                self._open()
            assert self._file is not None
            written = os.write(self._file, data)
            if written < len(data):  # a torn frame would hide all that follows it
                os.ftruncate(self._file, self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if not self.error:
                logger.warning("%s cannot be written: %s; answers go on without it", self._folder, error.strerror)
            self.error = error.strerror or str(error)
            return False
        if self.error:
            logger.warning("%s is written again; it lacks %d answers", self._folder, self.dropped)
        self.error = ""
        return True

    def _open(self) -> None:
        self._path = self._folder / f"{now_ms()}-{new_id()[:8]}{OPEN}"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size, self._opened = 0, now_ms() / 1000


def _settle(full: list[tuple[int, Path]], open_file: int | None) -> None:
    for handle, path in full:
        try:
            os.fdatasync(handle)
        finally:
            os.close(handle)
        path.rename(path.with_suffix(SEALED))
    if open_file is not None:
        try:
            os.fdatasync(open_file)
        finally:
            os.close(open_file)


def redacted(record: Record, names: tuple[str, ...], columns: tuple[str, ...]) -> Record:
    """The record without the named ones of the columns; without its request when they cannot be told apart."""
    return msgspec.structs.replace(
        record,
        request=redact(record.request, record.path, record.content_type, frozenset(names), columns),
        request_json_length=None,
    )


def read_segment(path: Path) -> Iterator[Record]:
    """Every record of each whole frame; a torn or damaged tail ends the reading."""
    decoder = msgspec.msgpack.Decoder(list[Record])
    with path.open("rb") as stream:
        while len(header := stream.read(FRAME.size)) == FRAME.size:
            length, checksum = FRAME.unpack(header)
            payload = stream.read(length)
            if len(payload) < length or zlib.crc32(payload) != checksum:
                return
            yield from decoder.decode(payload)
