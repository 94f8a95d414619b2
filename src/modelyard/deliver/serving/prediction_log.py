"""The prediction log's writing side: CRC-framed segments, written once a loop turn, never in the way of an answer."""

import asyncio
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id

FRAME = struct.Struct("<II")
SEGMENT_BYTES = 8 << 20
SEGMENT_S = 60.0
SYNC_S = 1.0
MOST_WAITING = 10_000
OPEN, SEALED = ".open", ".segment"


class Record(msgspec.Struct, array_like=True):
    """One answered request: bodies undecoded; times in milliseconds since the epoch, latency in microseconds."""

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


class PredictionLog:
    """Appends records of one endpoint; call `close` to seal what is open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in folder.glob(
            f"*{OPEN}"
        ):  # a former gateway was killed: what it wrote is whole up to its last frame
            left.rename(left.with_suffix(SEALED))
        self._encoder = msgspec.msgpack.Encoder()
        self._waiting: list[Record] = []
        self._file: int | None = None
        self._path = folder
        self._size = 0
        self._opened = 0.0
        self.dropped = 0

    def add(self, record: Record) -> None:
        """Take a record; it is written at the end of this loop turn. Under pressure it is dropped and counted."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append(record)

    def flush(self) -> None:
        """Write what waits with one system call; a refused write (full disk) is counted, not raised."""
        records, self._waiting = self._waiting, []
        if not records:
            return
        data = b"".join(_framed(self._encoder.encode(record)) for record in records)
        try:
            if self._file is None:
                self._open()
            assert self._file is not None
            os.write(self._file, data)
        except OSError:
            self.dropped += len(records)
            return
        self._size += len(data)
        if self._size >= SEGMENT_BYTES:
            self.seal()

    async def keep(self) -> None:
        """Sync every SYNC_S in a thread; seal a segment that is old."""
        while True:
            await asyncio.sleep(SYNC_S)
            if self._file is None:
                continue
            await asyncio.to_thread(_sync, os.dup(self._file))
            if now_ms() / 1000 - self._opened > SEGMENT_S:
                self.seal()

    def seal(self) -> None:
        """Close the open segment and give it its final name."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self._path.rename(self._path.with_suffix(SEALED))

    def close(self) -> None:
        self.flush()
        self.seal()

    def _open(self) -> None:
        self._path = self._folder / f"{now_ms()}-{new_id()[:8]}{OPEN}"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size, self._opened = 0, now_ms() / 1000


def _sync(handle: int) -> None:
    try:
        os.fdatasync(handle)
    finally:
        os.close(handle)


def _framed(payload: bytes) -> bytes:
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def read_segment(path: Path, start: int = 0) -> Iterator[tuple[int, Record]]:
    """(end offset, record) of every whole record from byte `start` on; a torn or damaged tail ends the reading."""
    decoder = msgspec.msgpack.Decoder(Record)
    with path.open("rb") as stream:
        stream.seek(start)
        while len(header := stream.read(FRAME.size)) == FRAME.size:
            length, checksum = FRAME.unpack(header)
            payload = stream.read(length)
            if len(payload) < length or zlib.crc32(payload) != checksum:
                return
            yield stream.tell(), decoder.decode(payload)
