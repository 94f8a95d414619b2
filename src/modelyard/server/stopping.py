"""Work that ends early when something says so."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def unless(stop: Coroutine[Any, Any, object], work: Coroutine[Any, Any, T]) -> tuple[bool, T | None]:
    """(True, the work's result); or (False, None) when `stop` returned first: the work is then cancelled and over."""
    working, looking = asyncio.ensure_future(work), asyncio.ensure_future(stop)
    try:
        done, _ = await asyncio.wait({working, looking}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, looking):
            task.cancel()
        await asyncio.gather(working, looking, return_exceptions=True)
    if working in done:
        return True, working.result()
    return False, None
