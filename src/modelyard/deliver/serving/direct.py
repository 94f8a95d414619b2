"""HTTP on the gateway's data path: prediction requests are answered by callbacks, all others by the application.

uvicorn's protocol makes a task, a scope and an event for each request, and passes messages through them: half of the
gateway's work. A prediction request that is plain, small and in order needs none of that. Whatever is not goes the
application's way, which finds the words for what is wrong; both ways end in the same exchange.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from modelyard.deliver.serving import frames
from modelyard.deliver.serving.errors import Refused, error_body
from modelyard.deliver.serving.exchange import Exchange, Place
from modelyard.deliver.serving.frames import Frame
from modelyard.deliver.serving.gateway import Gateway, Reply, closing_headers, refusal
from modelyard.deliver.serving.upstream import Outcome

MOST_BODY = 256 << 10
"""Larger bodies are read by the application, which looks at the token first."""


class Direct:
    """A request that is collected and answered here; uvicorn's protocol sees in it one of its own cycles."""

    message_event = asyncio.Event()
    """uvicorn wakes a reader by it; nobody waits here."""

    def __init__(self, place: Place, keep_alive: bool) -> None:
        self.place, self.keep_alive = place, keep_alive
        self.parts: list[bytes] = []
        self.disconnected = self.response_complete = False
        self.more_body = True


class DataPath(HttpToolsProtocol):
    """One connection of a caller."""

    wrong: tuple[int, str, str] | None = None
    """Status, phrase and words for what ended the parsing, where that is not the parser's own finding."""

    def __init__(self, gateway: Gateway, **options: Any) -> None:
        super().__init__(**options)
        self._gateway = gateway
        self.idle_since = 0.0
        """When the last answer left by the loop's clock, for those that close connections nobody uses; a timer for
        each answer, as uvicorn sets it, costs more than the answer's headers."""
        self._recovering: set[asyncio.Task[None]] = self.server_state.tasks  # which the server waits for at its end

    def on_message_begin(self) -> None:
        """Begin without the scope, which only the application needs."""
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        place = self._place()
        if place is None:
            self._with_scope()
        else:
            parser: Any = self.parser
            self.cycle: Any = Direct(place, parser.should_keep_alive())

    def _place(self) -> Place | None:
        """What is asked, if it may be answered here."""
        parser: Any = self.parser
        if parser.get_method() != b"POST" or self.expect_100_continue or self.flow.write_paused:
            return None
        if self.cycle is not None and not self.cycle.response_complete:
            return None
        place = self._gateway.place(self.url)
        if place is None or parser.get_http_version() != "1.1" or parser.should_upgrade():
            return None
        names = [name for name, _ in self.headers]
        if b"transfer-encoding" in names or names.count(b"content-length") != 1:
            return None
        length = self.headers[names.index(b"content-length")][1]
        fits = length.isdigit() and int(length) <= min(MOST_BODY, place.endpoint.limits.max_body_bytes)
        return place if fits else None

    def on_body(self, body: bytes) -> None:
        if isinstance(self.cycle, Direct):
            self.cycle.parts.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        direct = self.cycle
        if not isinstance(direct, Direct):
            super().on_message_complete()
            return
        body = b"".join(direct.parts)
        direct.more_body = False
        headers = dict(self.headers)
        exchange = self._gateway.open(direct.place, headers, body)
        if exchange is None:
            self._by_application(body)
            return
        dispatcher = self._gateway.dispatcher
        upstream = dispatcher.ready(exchange.target)
        if upstream is None:
            self._in_a_task(direct, exchange, dispatcher.ask(exchange))
            return

        def settle(outcome: Outcome) -> None:
            if isinstance(outcome, Frame):
                status, more = self._gateway.exchanges.answered(exchange, outcome)
                self._reply(direct, exchange, (status, more, outcome.body))
            else:
                self._in_a_task(direct, exchange, dispatcher.after(outcome, exchange, upstream))

        upstream.put(frames.REQUEST, exchange.meta, body, exchange.deadline, settle)

    def _with_scope(self) -> None:
        """Begin the message again as uvicorn does, with a scope, and tell it that the head is whole."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the scope holds this list
        super().on_headers_complete()

    def _by_application(self, body: bytes) -> None:
        """Give a request whose body is here to the application."""
        self.cycle = None
        self._with_scope()
        super().on_body(body)
        super().on_message_complete()

    def _in_a_task(self, direct: Direct, exchange: Exchange, asking: Any) -> None:
        """Answer a request for which no worker is at hand."""

        async def finish() -> None:
            try:
                reply = await self._gateway.finish(exchange, asking)
            except Refused as refused:
                reply = refusal(f"/endpoints/{exchange.place.name}/{exchange.place.inner}", refused)
            self._reply(direct, exchange, reply)

        task = self.loop.create_task(finish())
        self._recovering.add(task)
        task.add_done_callback(self._recovering.discard)

    def _reply(self, direct: Direct, exchange: Exchange, reply: Reply) -> None:
        direct.response_complete = True
        if direct.disconnected or self.transport.is_closing():
            return
        status, more, body = reply
        head = b"".join([b"%b: %b\r\n" % header for header in (*more, *closing_headers(exchange.headers, body))])
        closing = b"" if direct.keep_alive else b"connection: close\r\n"
        self.transport.write(b"%b%b%b\r\n%b" % (STATUS_LINE[status], head, closing, body))
        if not direct.keep_alive:
            self.transport.close()
        if self.pipeline:
            self.on_response_complete()
        else:
            self.idle_since = self.loop.time()
            self.flow.resume_reading()

    def unused(self, now: float) -> bool:
        """Whether a connection that was answered here was kept open for long enough; uvicorn closes its own."""
        answered = isinstance(self.cycle, Direct) and self.cycle.response_complete
        return answered and now - self.idle_since > self.timeout_keep_alive

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed in the shape of every other error."""
        self.refuse(*(self.wrong or (400, "Bad Request", msg)))

    def refuse(self, status: int, phrase: str, message: str) -> None:
        """Answer and hang up; where the answer to an earlier request is due, that one goes out before the end."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if cycle is None or cycle.response_complete or not getattr(cycle, "response_started", True):
            body = error_body("", status, message)
            head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\nconnection: close\r\n"
            length = b"content-length: %d\r\n\r\n" % len(body)
            self._gateway.exchanges.refused["", status] += 1
            self.transport.write(head % (status, phrase.encode()) + length + body)
        self.transport.close()
