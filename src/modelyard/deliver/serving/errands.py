"""What the gateway has carried by the porter, which alone has object stores' credentials: inputs in, answers out."""

import asyncio
from typing import Literal

import msgspec

from modelyard.deliver.serving import frames
from modelyard.deliver.serving.errors import Refused
from modelyard.deliver.serving.frames import Frame
from modelyard.deliver.serving.upstream import Upstream, WorkerLost

PATIENCE_S = 600.0
"""How long one object may take: the store's own retries are within."""


class Errand(msgspec.Struct, array_like=True, frozen=True):
    """`endpoint`: whose policy says which places are allowed; `type`: the media type of what is written."""

    do: Literal["read", "write"]
    endpoint: str
    location: str
    type: str = ""


ERRANDS = msgspec.json.Decoder(Errand)
encode_errand = msgspec.json.Encoder().encode


class Porter:
    """The gateway's end. Each call raises Refused: 503 for what may go well later, else with what is wrong."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._upstream = Upstream(socket)

    async def read(self, endpoint: str, location: str) -> bytes:
        return (await self._ask(Errand("read", endpoint, location), b"")).body

    async def write(self, endpoint: str, location: str, type: str, body: bytes) -> None:
        await self._ask(Errand("write", endpoint, location, type), body)

    def close(self) -> None:
        self._upstream.close()

    async def _ask(self, errand: Errand, body: bytes) -> Frame:
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        try:
            found = await self._upstream.ask(frames.REQUEST, encode_errand(errand), body, deadline)
        except (TimeoutError, WorkerLost) as error:
            raise Refused(503, f"Object stores cannot be reached from here: {error}.") from None
        status = found.answer().status
        if status >= 400:
            raise Refused(status, found.body.decode())
        return found
