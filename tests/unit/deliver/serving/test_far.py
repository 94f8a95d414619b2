"""Workers on other machines: found by the file beside their place, closed to who does not know their secret."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from modelyard.deliver.serving import far, frames
from modelyard.deliver.serving.far import Address, GuardedConnection
from modelyard.deliver.serving.upstream import Upstream, WorkerLost
from tests.unit.deliver.serving.test_upstream import echo, run

SECRET = "ab" * far.SECRET_BYTES


@contextlib.asynccontextmanager
async def listening() -> AsyncGenerator[int]:
    """A guarded peer on a port."""
    made: list[GuardedConnection] = []

    def accept() -> GuardedConnection:
        made.append(GuardedConnection(bytes.fromhex(SECRET), echo, lambda: None))
        return made[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in made:
            connection.close()
        await server.wait_closed()


def test_it_is_asked_where_the_file_says_and_not_once_that_is_gone(tmp_path: Path):
    async def test() -> None:
        place = str(tmp_path / "w.sock")
        async with listening() as port:
            here = Address("127.0.0.1", port, SECRET)
            far.publish(place, here)
            far.withdraw(place, Address("127.0.0.1", port + 1, SECRET))  # of a worker that was there before: no word
            upstream = Upstream(place)
            answers = await asyncio.gather(*(upstream.ask(frames.REQUEST, b"m", bytes([n])) for n in range(20)))
            assert [answer.body for answer in answers] == [bytes([n]) for n in range(20)]
            upstream.close()
            far.withdraw(place, here)
            with pytest.raises(WorkerLost):
                await Upstream(place).ask(frames.REQUEST, b"", b"")

    run(test())


def test_who_does_not_begin_with_the_secret_is_hung_up_on(tmp_path: Path):
    async def test() -> None:
        place = str(tmp_path / "w.sock")
        async with listening() as port:
            far.publish(place, Address("127.0.0.1", port, "cd" * far.SECRET_BYTES))
            with pytest.raises(WorkerLost):
                await Upstream(place).ask(frames.REQUEST, b"", b"x")

    run(test())


def test_a_secret_in_pieces_is_one(tmp_path: Path):
    async def test() -> None:
        async with listening() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            whole = bytes.fromhex(SECRET) + frames.encode(7, frames.REQUEST, b"", b"hello")
            for piece in (whole[:5], whole[5:40], whole[40:]):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            assert (await reader.readexactly(frames.HEADER.size + 5)).endswith(b"hello")
            writer.close()

    run(test())
