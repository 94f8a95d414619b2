"""The OpenAPI 3.1 document of the native API, made from the route table."""

from typing import Any

import msgspec

from modelyard import __version__
from modelyard.domain.permissions import Permission
from modelyard.server.routes import Route


def document(routes: list[Route]) -> dict[str, Any]:
    """OpenAPI of every route under /api/v1, each with the permission that it needs."""
    native = [route for route in routes if route.path.startswith("/api/v1")]
    types = [kind for route in native for kind in (route.body, route.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in native:
        path = route.path.replace(":path}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "modelyard", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "remedy": {"type": "string"},
                "fields": {"type": "object"},
            },
        }
    },
}


def _operation(route: Route, schema_of: dict[int, dict[str, Any]]) -> dict[str, Any]:
    noun = route.segments[2]
    names = [segment.strip("{}").removesuffix(":path") for segment in route.segments if segment.startswith("{")]
    answer = schema_of.get(id(route.answer), {}) if route.answer is not None else {}
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}-{'-'.join(s.strip('{}') for s in route.segments[2:])}",
        "tags": [noun],
        "summary": route.summary or route.handler.__name__.replace("_", " "),
        "x-permission": str(route.permission),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ],
        "responses": {
            "200": {"description": "done", "content": {"application/json": {"schema": answer}}},
            "default": {
                "description": "an error that says what to do",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if route.permission is Permission.PUBLIC:
        operation["security"] = []
    if route.body is not None:
        content = {"application/json": {"schema": schema_of[id(route.body)]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
