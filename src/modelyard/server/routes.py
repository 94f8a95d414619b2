"""The one route table: path, permission, request and answer types; a route without a permission does not start."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request

from modelyard.domain.errors import Forbidden, Invalid, NotFound
from modelyard.domain.permissions import Permission, Principal
from modelyard.server.yard import Yard


@dataclass
class BriefCall:
    """One request as a brief handler sees it: authenticated, authorized, decoded; `size` is its body's in bytes."""

    yard: Yard
    principal: Principal
    query: dict[str, str]
    body: Any
    size: int

    def number(self, name: str, default: int, most: int | None = None) -> int:
        """A whole number of the query. Raises Invalid for what is none, or more than `most`."""
        text = self.query.get(name, str(default))
        if not text.isdigit() or len(text) > 18 or (most is not None and int(text) > most):
            bound = f" up to {most}" if most else ""
            raise Invalid(f"{name}={text!r:.40} is not a number{bound}.")
        return int(text)


@dataclass
class Call(BriefCall):
    """One request as a handler sees it."""

    path: dict[str, str]
    request: Request

    def require(self, permission: Permission, environment: str | None = None) -> None:
        """Raise Forbidden unless the principal may; for checks that depend on the body."""
        require(self.principal, permission, environment)


def require(principal: Principal, permission: Permission, environment: str | None) -> None:
    """Raise Forbidden unless some role of the principal grants `permission` in `environment`."""
    if not principal.may(permission, environment):
        place = f" in {environment}" if environment else ""
        roles = ", ".join(sorted(principal.roles)) or "no role"
        raise Forbidden(
            f"{principal.name} ({roles}) has no permission {permission}{place}.",
            remedy="Ask somebody who manages principals for a role that grants it.",
        )


class NoRoute(NotFound):
    """No line of the table has this method and path."""


Handler = Callable[[Call], Awaitable[Any]]
BriefHandler = Callable[[BriefCall], Callable[[Connection], Any]]
"""Makes of a call the work whose result is its answer: `Store.when_read` of a GET, else `Store.when_written`."""


@dataclass(frozen=True)
class Route:
    """One line of the table. `answer` documents; a handler may return any JSON value or a Response.

    `body` is the type that JSON is decoded to; bytes for a handler that decodes it by itself, None for no body.
    """

    method: str
    path: str
    permission: Permission
    handler: Handler
    body: Any = None
    answer: Any = None
    summary: str = ""
    environment: str | None = None
    max_body: int = 4 << 20
    stream: bool = False
    form: bool = False
    """The console's own pages send forms (application/x-www-form-urlencoded); everything else is JSON."""
    brief: BriefHandler | None = None
    """What `handler` does where it is but one brief work: a connection may do it without a task (docs/adr/0097)."""

    @property
    def segments(self) -> list[str]:
        return self.path.strip("/").split("/")


def awaited(brief: BriefHandler, method: str) -> Handler:
    """The handler that does a brief handler's work."""

    async def handle(call: Call) -> Any:
        store = call.yard.store
        return await (store.read_brief if method == "GET" else store.write_brief)(brief(call))

    return handle


@dataclass
class _Node:
    fixed: "dict[str, _Node]" = field(default_factory=dict[str, "_Node"])
    variable: "_Node | None" = None
    rest: dict[str, Route] = field(default_factory=dict[str, Route])
    routes: dict[str, Route] = field(default_factory=dict[str, Route])


class RouteTable:
    """Finds the route of a method and path: a dictionary for fixed paths, a tree by segments for the others."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = list(routes)
        self._fixed: dict[tuple[str, str], Route] = {}
        self._root = _Node()
        seen: set[tuple[str, str]] = set()
        for route in self.routes:
            if not isinstance(route.permission, Permission):
                raise TypeError(f"{route.method} {route.path} has no permission.")
            if (route.method, route.path) in seen:
                raise TypeError(f"{route.method} {route.path} is declared twice.")
            seen.add((route.method, route.path))
            if "{" not in route.path:
                self._fixed[route.method, route.path] = route
            self._insert(route)

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and its path parameters. Raises NotFound."""
        if method == "HEAD":
            method = "GET"
        fixed = self._fixed.get((method, path))
        if fixed is not None:
            return fixed, {}
        parts = path.strip("/").split("/")
        route = _walk(self._root, parts, 0, method)
        if route is None:
            raise NoRoute(f"There is no {method} {path}.", remedy="The API is described at /api/v1/openapi.json.")
        return route, _parameters(route, parts)

    def _insert(self, route: Route) -> None:
        node = self._root
        for segment in route.segments:
            if segment.endswith(":path}"):
                node.rest[route.method] = route
                return
            if segment.startswith("{"):
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.fixed.setdefault(segment, _Node())
        node.routes[route.method] = route


def _walk(node: _Node, parts: list[str], index: int, method: str) -> Route | None:
    if index == len(parts):
        return node.routes.get(method)
    for child in (node.fixed.get(parts[index]), node.variable):
        if child is not None and (found := _walk(child, parts, index + 1, method)):
            return found
    return node.rest.get(method)


def _parameters(route: Route, parts: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for index, segment in enumerate(route.segments):
        if segment.endswith(":path}"):
            values[segment[1:-6]] = "/".join(parts[index:])
        elif segment.startswith("{"):
            values[segment[1:-1]] = parts[index]
    return values
