"""From a far machine to its hub: sealed segments of the prediction log, each once, in pieces that can be resumed; and
the labels that its gateway took.

While the hub is gone segments stay here, within a limit: what is more is dropped, the oldest first, and counted.
"""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from modelyard.deliver.deployments import places
from modelyard.deliver.serving import ground_truth
from modelyard.deliver.serving.capture import SHADOW
from modelyard.deliver.serving.ground_truth import Label
from modelyard.deliver.serving.prediction_log import SEALED
from modelyard.domain.errors import ModelyardError, NotFound, Unavailable
from modelyard.kit.files import atomic_write
from modelyard.kit.hashing import digest_file

PIECE_BYTES = 1 << 20
SPOOL_BYTES = 1 << 30
TURN_S = 2.0
LABELS = 20_000
"""Sent at once."""
logger = logging.getLogger("modelyard.agent")


@dataclass(frozen=True)
class Segment:
    """A sealed file of the prediction log. `log` is answers or shadow: whose answers it holds."""

    endpoint: str
    log: str
    path: Path

    @property
    def name(self) -> str:
        return self.path.stem


class Receiver(Protocol):
    """What takes segments; implemented over the client's calls."""

    def arrived(self, segment: Segment) -> tuple[int, bool]:
        """(how many bytes of it are there, whether it is there as a whole)."""
        ...

    def send(self, segment: Segment, offset: int, size: int, digest: str, data: bytes) -> None: ...

    def send_labels(self, endpoint: str, labels: list[Label]) -> None: ...


class Told(msgspec.Struct, frozen=True):
    """What became of this machine's segments: those sent, and those that the limit made us drop."""

    sent: int = 0
    dropped: int = 0
    dropped_bytes: int = 0


class Shipper:
    """Sends what is sealed and forgets it here once the hub has it whole."""

    def __init__(self, receiver: Receiver, home: Path, environment: str, most_bytes: int = SPOOL_BYTES) -> None:
        self._receiver, self._home, self._environment, self._most = receiver, home, environment, most_bytes
        self._file = places.serving(home, environment) / "shipped.json"

    async def run(self) -> None:
        """Until cancelled; what the hub does not take now is tried again."""
        while True:
            try:
                await asyncio.to_thread(self.turn)
            except Unavailable:
                pass  # the agent's other loop says that the hub is gone
            except (OSError, ModelyardError) as error:
                logger.warning("the prediction log cannot be sent, it is tried again: %s", error)
            await asyncio.sleep(TURN_S)

    def turn(self) -> None:
        """Keep within the limit, then send everything that waits. Raises Unavailable, OSError."""
        self.trim()
        self.ship_labels()
        for segment in list(self.waiting()):
            try:
                self.ship(segment)
            except NotFound:  # the hub knows no such endpoint any more: kept until the limit drops it
                continue

    def ship_labels(self) -> None:
        """Send the labels of each endpoint and forget them here; one that is sent twice changes nothing."""
        for file in places.predictions(self._home, self._environment, "").glob(f"*/{ground_truth.FILE}"):
            labels, end = ground_truth.oldest(file.parent, LABELS)
            while end:
                try:
                    self._receiver.send_labels(file.parent.name, labels)
                except NotFound:  # the hub knows no such endpoint any more
                    break
                ground_truth.forget(file.parent, end)
                labels, end = ground_truth.oldest(file.parent, LABELS)

    def waiting(self) -> Iterator[Segment]:
        """Sealed segments, oldest first."""
        root = places.predictions(self._home, self._environment, "")
        found = [Segment(path.parent.name, "answers", path) for path in root.glob(f"*/*{SEALED}")]
        found += [Segment(path.parents[1].name, SHADOW, path) for path in root.glob(f"*/{SHADOW}/*{SEALED}")]
        yield from sorted(found, key=lambda segment: segment.path.name)

    def trim(self) -> None:
        """Drop the oldest segments beyond the limit."""
        waiting = [(segment, segment.path.stat().st_size) for segment in self.waiting()]
        excess = sum(size for _, size in waiting) - self._most
        for segment, size in waiting:
            if excess <= 0:
                return
            held = self.told()
            self._note(
                msgspec.structs.replace(held, dropped=held.dropped + 1, dropped_bytes=held.dropped_bytes + size)
            )
            segment.path.unlink(missing_ok=True)
            excess -= size

    def ship(self, segment: Segment) -> None:
        """Send what the hub does not have of a segment, then remove it here."""
        offset, whole = self._receiver.arrived(segment)
        if not whole:
            size, digest = segment.path.stat().st_size, digest_file(segment.path)
            with segment.path.open("rb") as stream:
                stream.seek(offset)
                while piece := stream.read(PIECE_BYTES):
                    self._receiver.send(segment, offset, size, digest, piece)
                    offset += len(piece)
        segment.path.unlink(missing_ok=True)
        held = self.told()
        self._note(msgspec.structs.replace(held, sent=held.sent + 1))

    def told(self) -> Told:
        """What became of segments since this machine serves."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Told)
        except (FileNotFoundError, msgspec.DecodeError):
            return Told()

    def report(self) -> dict[str, Any]:
        """The same with what waits, for the hub."""
        sizes = [segment.path.stat().st_size for segment in self.waiting()]
        return {**msgspec.to_builtins(self.told()), "waiting": len(sizes), "waiting_bytes": sum(sizes)}

    def _note(self, told: Told) -> None:
        atomic_write(self._file, msgspec.json.encode(told), mode=0o600, durable=False)
