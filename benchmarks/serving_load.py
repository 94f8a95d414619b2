"""A load generator of raw HTTP/1.1 over kept connections, and what processes cost by /proc."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)


@dataclass
class Result:
    """Latencies in milliseconds of the answers with status 200; `failed` counts every other."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    cpu_us: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def quantile(self, share: float) -> float:
        found = sorted(self.latencies)
        return found[min(len(found) - 1, int(share * len(found)))] if found else float("nan")


class Caller(asyncio.Protocol):
    """One connection with one request under way; asks the next as soon as it is answered, until `end`."""

    def __init__(self, requests: Iterator[bytes], result: Result, end: float, done: "asyncio.Future[None]") -> None:
        self.requests, self.result, self.end, self.done = requests, result, end, done
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.started = time.perf_counter()
        if self.started >= self.end:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.transport.write(next(self.requests))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head_end = self.buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self.buffer[:head_end].lower()
        at = head.find(b"content-length:")
        if at >= 0:
            length = int(head[at + 15 : (head.find(b"\r", at) if head.find(b"\r", at) > 0 else len(head))])
            whole = len(self.buffer) >= head_end + 4 + length
        else:
            whole = self.buffer.endswith(b"0\r\n\r\n")
        if not whole:
            return
        if self.buffer.startswith(b"HTTP/1.1 200"):
            self.result.latencies.append((time.perf_counter() - self.started) * 1000)
        else:
            self.result.failed += 1
        self.buffer = b""
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.result.failed += 1
            self.done.set_result(None)


async def drive(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Result:
    """Ask the requests in turn from so many connections for so long."""
    turn = cycle(requests)
    loop = asyncio.get_running_loop()
    result = Result()
    started = time.perf_counter()
    waits: list[asyncio.Future[None]] = []
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        waits.append(done)
        end = started + seconds
        await loop.create_connection(lambda done=done, end=end: Caller(turn, result, end, done), "127.0.0.1", port)
    await asyncio.wait(waits, timeout=seconds + 60)
    result.seconds = time.perf_counter() - started
    return result


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        found.append(queue.pop())
        queue += parents.get(found[-1], [])
    return found


def cpu_s(pids: list[int]) -> float:
    """CPU seconds that processes have used."""
    total = 0.0
    for pid in {descendant for root in pids for descendant in tree(root)}:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) * TICK_S
    return total


def resident_mb(pids: list[int]) -> float:
    """Resident memory of processes and their descendants."""
    total = 0.0
    for pid in {descendant for root in pids for descendant in tree(root)}:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MB
        except OSError:
            continue
    return total
