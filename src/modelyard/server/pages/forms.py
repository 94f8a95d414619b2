"""What forms carry, as the calls of the native API take it: pages decide and change nothing by themselves."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from modelyard.domain.errors import ModelyardError
from modelyard.server.pages import render
from modelyard.server.routes import Call

Show = Callable[[Call, ModelyardError | None], Awaitable[Response]]


def field(call: Call, name: str) -> str:
    """A field of the posted form; empty when it is absent."""
    return str(call.body.get(name, "")).strip()


def ticked(call: Call, prefix: str) -> list[str]:
    """The names of the ticked boxes that begin with a prefix, without it."""
    return sorted(name.removeprefix(prefix) for name in call.body if name.startswith(prefix))


async def act(
    call: Call, handler: Callable[[Call], Awaitable[Any]], body: Any, goal: str, done: str, show: Show
) -> Response:
    """Do what the API's handler does with `body`; then the page `goal`, or the same page with what went wrong."""
    try:
        await handler(replace(call, body=body))
    except ModelyardError as error:
        return await show(call, error)
    return render.back(goal, done)
