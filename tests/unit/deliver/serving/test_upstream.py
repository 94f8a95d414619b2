"""The gateway's connections to workers, over real Unix sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from modelyard.deliver.serving import frames
from modelyard.deliver.serving.frames import Frame, FrameConnection
from modelyard.deliver.serving.upstream import Pool, Upstream, WorkerLost

DEADLINE_S = 5.0
OnFrames = Callable[[FrameConnection, list[Frame]], None]


def echo(connection: FrameConnection, received: list[Frame]) -> None:
    for frame in reversed(received):  # out of order, as answers may come
        connection.send(frames.encode(frame.id, frames.ANSWER, frame.meta, frame.body))


@contextlib.asynccontextmanager
async def listening(socket: Path, on_frames: OnFrames) -> AsyncIterator[list[FrameConnection]]:
    """A peer on a socket; the connections that it accepted. They are closed at the end."""
    accepted: list[FrameConnection] = []

    def accept() -> FrameConnection:
        accepted.append(FrameConnection(on_frames, lambda: None))
        return accepted[-1]

    server = await asyncio.get_running_loop().create_unix_server(accept, str(socket))
    try:
        yield accepted
    finally:
        server.close()
        for connection in accepted:
            connection.close()
        await server.wait_closed()


def run(test: Awaitable[None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await test

    asyncio.run(limited())


def test_answers_out_of_order_find_their_requests(tmp_path: Path):
    async def test() -> None:
        async with listening(tmp_path / "s", echo) as accepted:
            upstream = Upstream(str(tmp_path / "s"))
            bodies = [str(number).encode() for number in range(200)]
            answers = await asyncio.gather(*(upstream.ask(frames.REQUEST, b"", body) for body in bodies))
            assert [answer.body for answer in answers] == bodies
            assert len(accepted) == 1 and upstream.idle
            upstream.close()

    run(test())


def test_nobody_there_is_a_lost_worker(tmp_path: Path):
    async def test() -> None:
        with pytest.raises(WorkerLost):
            await Upstream(str(tmp_path / "nothing")).ask(frames.PING, b"", b"")

    run(test())


def test_a_worker_that_goes_away_fails_what_waits_and_is_connected_to_again(tmp_path: Path):
    async def test() -> None:
        upstream = Upstream(str(tmp_path / "s"))

        def hang_up(connection: FrameConnection, _: list[Frame]) -> None:
            connection.close()

        async with listening(tmp_path / "s", hang_up):
            asked = [upstream.ask(frames.REQUEST, b"", b"") for _ in range(3)]
            assert all(isinstance(e, WorkerLost) for e in await asyncio.gather(*asked, return_exceptions=True))
        (tmp_path / "s").unlink(missing_ok=True)
        async with listening(tmp_path / "s", echo):
            assert (await upstream.ask(frames.REQUEST, b"", b"again")).body == b"again"
            upstream.close()

    run(test())


def test_an_abandoned_request_leaves_nothing_and_its_late_answer_is_passed_over(tmp_path: Path):
    async def test() -> None:
        held: list[tuple[FrameConnection, Frame]] = []
        came = asyncio.Event()

        def hold(connection: FrameConnection, received: list[Frame]) -> None:
            held.extend((connection, frame) for frame in received)
            came.set()

        async with listening(tmp_path / "s", hold):
            upstream = Upstream(str(tmp_path / "s"))
            first = asyncio.ensure_future(upstream.ask(frames.REQUEST, b"", b"first"))
            await came.wait()
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert upstream.idle
            came.clear()
            second = asyncio.ensure_future(upstream.ask(frames.REQUEST, b"", b"second"))
            await came.wait()
            for connection, frame in held:
                connection.send(frames.encode(frame.id, frames.ANSWER, b"", frame.body))
            assert (await second).body == b"second"
            upstream.close()

    run(test())


def test_a_worker_that_hangs_up_at_once_is_lost_and_not_waited_for(tmp_path: Path):
    """The connection can be over before the one who asked for it goes on."""

    async def test() -> None:
        async def slam(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_unix_server(slam, str(tmp_path / "s"))
        for _ in range(50):
            with pytest.raises(WorkerLost):
                await Upstream(str(tmp_path / "s")).ask(frames.REQUEST, b"", b"")
        server.close()
        await server.wait_closed()

    run(test())


def test_requests_take_turns_over_a_deployments_workers():
    async def test() -> None:
        pool = Pool()
        found = [pool.of(["a", "b", "c"]) for _ in range(6)]
        assert found[:3] == found[3:] and len(set(found)) == 3

    run(test())


def test_a_second_attempt_asks_another_worker():
    async def test() -> None:
        pool = Pool()
        for _ in range(5):
            first = pool.of(["a", "b"])
            assert pool.of(["a", "b"], {first}) is not first
        assert pool.of(["a"], {pool.at("a")}) is pool.at("a")

    run(test())


def test_workers_no_longer_routed_to_are_hung_up_on_when_idle(tmp_path: Path):
    async def test() -> None:
        lost = asyncio.Event()
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: FrameConnection(echo, lost.set), str(tmp_path / "s"))
        pool = Pool()
        upstream = pool.of([str(tmp_path / "s")])
        await upstream.ask(frames.REQUEST, b"", b"")
        pool.keep({str(tmp_path / "s")})
        assert pool.of([str(tmp_path / "s")]) is upstream and not lost.is_set()
        pool.keep(set())
        await lost.wait()
        server.close()
        await server.wait_closed()

    run(test())


def test_workers_no_longer_routed_to_are_hung_up_on_after_their_last_answer(tmp_path: Path):
    async def test() -> None:
        held: list[tuple[FrameConnection, Frame]] = []
        came, lost = asyncio.Event(), asyncio.Event()

        def hold(connection: FrameConnection, received: list[Frame]) -> None:
            held.extend((connection, frame) for frame in received)
            came.set()

        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: FrameConnection(hold, lost.set), str(tmp_path / "s"))
        pool = Pool()
        upstream = pool.of([str(tmp_path / "s")])
        asked = asyncio.ensure_future(upstream.ask(frames.REQUEST, b"", b""))
        await came.wait()
        pool.keep(set())
        connection, frame = held[0]
        connection.send(frames.encode(frame.id, frames.ANSWER, b"", b"done"))
        assert (await asked).body == b"done"
        try:
            async with asyncio.timeout(0.5):
                await lost.wait()
        finally:
            upstream.close()
            server.close()

    run(test())
