"""The route table: fixed and variable paths, and what does not start."""

from typing import Any

import pytest

from modelyard.domain.errors import NotFound
from modelyard.domain.permissions import Permission
from modelyard.server.routes import Call, Route, RouteTable


async def handler(call: Call) -> Any:
    return None


def route(path: str, method: str = "GET") -> Route:
    return Route(method, path, Permission.RUNS_READ, handler)


TABLE = RouteTable(
    [
        route("/api/v1/models"),
        route("/api/v1/models/{name}"),
        route("/api/v1/models/{name}/versions/{version}"),
        route("/api/v1/models/special/versions/{version}"),
        route("/artifacts/{path:path}"),
        route("/artifacts/{path:path}", "PUT"),
    ]
)


@pytest.mark.parametrize(
    ("path", "found", "parameters"),
    [
        ("/api/v1/models", "/api/v1/models", {}),
        ("/api/v1/models/a", "/api/v1/models/{name}", {"name": "a"}),
        ("/api/v1/models/a/versions/3", "/api/v1/models/{name}/versions/{version}", {"name": "a", "version": "3"}),
        ("/api/v1/models/special/versions/3", "/api/v1/models/special/versions/{version}", {"version": "3"}),
        ("/api/v1/models/special", "/api/v1/models/{name}", {"name": "special"}),
        ("/artifacts/1/abc/model/MLmodel", "/artifacts/{path:path}", {"path": "1/abc/model/MLmodel"}),
    ],
)
def test_paths_are_found(path: str, found: str, parameters: dict[str, str]) -> None:
    route, values = TABLE.find("GET", path)
    assert (route.path, values) == (found, parameters)


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1/models/a/versions", "/api/v1/models/a/versions/1/x", "/nothing"]
)
def test_unknown_paths_are_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        TABLE.find("GET", path)


def test_a_method_without_a_route_is_not_found() -> None:
    with pytest.raises(NotFound):
        TABLE.find("DELETE", "/api/v1/models")


def test_a_route_without_a_permission_does_not_start() -> None:
    bare: Any = None
    with pytest.raises(TypeError, match="no permission"):
        RouteTable([Route("GET", "/open", bare, handler)])


def test_a_route_declared_twice_does_not_start() -> None:
    with pytest.raises(TypeError, match="twice"):
        RouteTable([route("/a"), route("/a")])
