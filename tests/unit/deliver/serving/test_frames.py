"""Frames over a real Unix socket: whole, torn apart, too large."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.deliver.serving import frames
from modelyard.deliver.serving.frames import AnswerMeta, Frame, FrameConnection, RequestMeta

FRAME = st.builds(
    Frame,
    st.integers(0, 2**64 - 1),
    st.sampled_from([frames.REQUEST, frames.ANSWER, frames.PING, frames.PONG]),
    st.binary(max_size=50),
    st.binary(max_size=200),
)


def encoded(frame: Frame) -> bytes:
    return frames.encode(frame.id, frame.kind, frame.meta, frame.body)


class Wire(asyncio.Transport):
    """What a connection writes; a transport of its own, for bytes that come exactly as cut."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def connected(test: Callable[[FrameConnection, Wire, list[list[Frame]]], Awaitable[None]]) -> None:
    async def run() -> None:
        received: list[list[Frame]] = []
        connection = FrameConnection(lambda _, found: received.append(found), lambda: None)
        wire = Wire()
        connection.connection_made(wire)
        await test(connection, wire, received)

    asyncio.run(run())


@given(st.lists(FRAME, min_size=1, max_size=8), st.lists(st.integers(1, 60), min_size=1))
def test_frames_arrive_whole_however_the_bytes_are_cut(sent: list[Frame], cuts: list[int]):
    async def test(connection: FrameConnection, _: Wire, received: list[list[Frame]]) -> None:
        data = b"".join(map(encoded, sent))
        start, turn = 0, 0
        while start < len(data):
            end = start + cuts[turn % len(cuts)]
            connection.data_received(data[start:end])
            start, turn = end, turn + 1
        assert [frame for found in received for frame in found] == sent

    connected(test)


def test_what_one_read_brings_is_handed_over_together():
    sent = [Frame(number, frames.REQUEST, b"{}", b"x" * number) for number in range(10)]

    async def test(connection: FrameConnection, _: Wire, received: list[list[Frame]]) -> None:
        connection.data_received(b"".join(map(encoded, sent)))
        assert received == [sent]

    connected(test)


def test_frames_of_one_loop_turn_leave_in_one_write():
    async def test(connection: FrameConnection, wire: Wire, _: list[list[Frame]]) -> None:
        for letter in (b"a", b"b", b"c"):
            connection.send(letter)
        assert wire.written == []
        await asyncio.sleep(0)
        assert wire.written == [b"abc"]
        connection.send(b"d")
        await asyncio.sleep(0)
        assert wire.written == [b"abc", b"d"]

    connected(test)


@pytest.mark.parametrize(
    "header", [frames.HEADER.pack(frames.MOST_FRAME + 1, 1, 1, 0), frames.HEADER.pack(5, 1, 1, 6)]
)
def test_an_impossible_header_ends_the_connection(header: bytes):
    async def test(connection: FrameConnection, wire: Wire, received: list[list[Frame]]) -> None:
        connection.data_received(header)
        assert wire.closed and not connection.open and received == []

    connected(test)


def test_the_meta_part_is_typed_and_its_tail_may_be_left_out():
    answer, request = AnswerMeta(200, "text/html", 7, 1, 2, 3), RequestMeta("invocations", "text/csv", None, 50.0)
    assert Frame(1, frames.ANSWER, msgspec.json.encode(answer), b"").answer() == answer
    assert Frame(1, frames.REQUEST, msgspec.json.encode(request), b"").request() == request
    assert Frame(1, frames.ANSWER, b"[200]", b"").answer() == AnswerMeta(200)


def test_a_lost_connection_is_told_once_and_swallows_what_is_sent(tmp_path: Path):
    async def run() -> None:
        lost = asyncio.Event()
        server_side: list[FrameConnection] = []

        def accept() -> FrameConnection:
            server_side.append(FrameConnection(lambda _, __: None, lambda: None))
            return server_side[-1]

        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(accept, str(tmp_path / "s"))
        _, connection = await loop.create_unix_connection(
            lambda: FrameConnection(lambda _, __: None, lost.set), str(tmp_path / "s")
        )
        assert connection.open
        connection.close()
        async with asyncio.timeout(10):
            await lost.wait()
        connection.send(b"late")
        await asyncio.sleep(0)
        assert not connection.open
        server.close()
        await server.wait_closed()

    asyncio.run(run())
