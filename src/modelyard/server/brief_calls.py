"""Brief calls, answered by the connection itself: no task, no ASGI messages, one write to the socket."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from modelyard.domain.errors import ModelyardError
from modelyard.domain.permissions import Principal
from modelyard.server.decoding import decoded
from modelyard.server.guard import check_origin, token_digest
from modelyard.server.http import JSON, Application, complete, failure, media_type, query_in
from modelyard.server.routes import BriefCall, BriefHandler, Route

Headers = Sequence[tuple[bytes, bytes]]
LENGTH = b"content-length"
Answer = Callable[[int, Headers | None, bytes], None]
"""Sends (status, headers, body); no headers stand for those of JSON, without the length."""


class Accepted:
    """A brief call that passed every check which its head allows."""

    def __init__(
        self,
        app: Application,
        route: Route,
        brief: BriefHandler,
        principal: Principal,
        query: bytes,
        headers: dict[str, str],
    ) -> None:
        self._app, self._route, self._brief = app, route, brief
        self._principal, self._query, self._headers = principal, query, headers

    def run(self, body: bytes, answer: Answer) -> None:
        """Do the work; `answer` sends what came of it, after the commit."""
        route, store = self._route, self._app.yard.store

        def done(result: Any, error: BaseException | None) -> None:
            try:
                if error is not None:
                    raise error
                encoded = msgspec.json.encode(result)
            except Exception as failed:  # noqa: BLE001 - the outermost loop of a request
                self._refuse(failed, answer)
            else:
                answer(200, None, encoded)

        try:
            given = decoded(body, route.body) if route.body is not None else None
            call = BriefCall(self._app.yard, self._principal, query_in(self._query), given, len(body))
            work = self._brief(call)
        except Exception as error:  # noqa: BLE001 - the outermost loop of a request
            self._refuse(error, answer)
        else:
            (store.when_read if route.method == "GET" else store.when_written)(work, done)

    def _refuse(self, error: BaseException, answer: Answer) -> None:
        route = self._route
        response = complete(failure(route.method, route.path, self._headers, error, self._principal))
        answer(response.status_code, response.raw_headers, bytes(response.body))


@dataclass(frozen=True)
class Judged:
    """A head that passed: its headers, and the digest of the token among them."""

    method: bytes
    raw: Headers
    headers: dict[str, str]
    token: str


class BriefCalls:
    """Finds brief calls among the requests; what is odd about one, the ordinary way judges."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._routes = {(r.method.encode(), r.path.encode()): r for r in app.table.routes if r.brief is not None}

    def accept(
        self, method: bytes, target: bytes, raw: Headers, last: Judged | None
    ) -> tuple[Accepted, Judged] | None:
        """The call to run once its body is there; None where the request must go the ordinary way.

        `last` is what this returned for the connection's former call: a client sends the same headers again and
        again, all but the length.
        """
        path, _, query = target.partition(b"?")
        route = self._routes.get((method, path))
        if route is None or route.brief is None or b"#" in query:
            return None
        lengths = [value for name, value in raw if name == LENGTH]
        if len(lengths) > 1 or (lengths and not (lengths[0].isdigit() and int(lengths[0]) <= route.max_body)):
            return None
        rest = [header for header in raw if header[0] != LENGTH]
        judged = (
            last if last is not None and last.raw == rest and last.method == method else self._judge(method, rest)
        )
        principal = self._app.authenticator.remembered(judged.token) if judged is not None else None
        if judged is None or principal is None or not principal.may(route.permission, None):
            return None
        return Accepted(self._app, route, route.brief, principal, query, judged.headers), judged

    def _judge(self, method: bytes, raw: Headers) -> Judged | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(raw)}
        token = token_digest(headers)
        if token is None or "transfer-encoding" in headers or media_type(headers) != JSON:
            return None
        try:
            check_origin(method.decode(), headers, self._app.hosts)
        except ModelyardError:
            return None
        return Judged(method, raw, headers, token)
