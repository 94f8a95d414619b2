"""Model folders of wanted deployments: copied and checked in the background, so that routing never waits for them."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from modelyard.deliver.deployments import files, places
from modelyard.deliver.deployments.placement import Placed
from modelyard.domain.errors import ModelyardError

RETRY_S = 5.0
logger = logging.getLogger("modelyard.controller")


class Copies:
    """Which folders are there, which are being made, and why one cannot be."""

    def __init__(self, home: Path, fetch: files.Fetch, done: Callable[[], None]) -> None:
        self._home, self._fetch, self._done = home, fetch, done
        self._checked: set[tuple[str, str]] = set()
        self._making: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._failed: dict[tuple[str, str], tuple[float, str]] = {}

    def want(self, environment: str, deployment: Placed) -> None:
        """Have the folder made, or checked if it is there; what failed is tried again after RETRY_S."""
        key = (environment, deployment.digest)
        failed = self._failed.get(key)
        late = failed is not None and time.monotonic() - failed[0] < RETRY_S
        if key not in self._checked and key not in self._making and not late:
            self._making[key] = asyncio.ensure_future(self._make(key, deployment))

    def ready(self, environment: str, deployment: Placed) -> bool:
        """Whether the folder is there; its worker checks every digest before it loads anything."""
        return (places.models(self._home, environment) / deployment.digest).exists()

    def failure(self, environment: str, digest: str) -> str | None:
        """Why the folder cannot be made, as of the last attempt."""
        failed = self._failed.get((environment, digest))
        return failed[1] if failed else None

    async def _make(self, key: tuple[str, str], deployment: Placed) -> None:
        environment, digest = key
        try:
            await asyncio.to_thread(self._copy, environment, deployment)
        except (OSError, ModelyardError) as error:
            logger.warning("the files of %s for %s cannot be copied: %s", digest[:12], environment, error)
            self._failed[key] = (time.monotonic(), str(error))
        else:
            self._checked.add(key)
            self._failed.pop(key, None)
        finally:
            del self._making[key]
            self._done()

    def _copy(self, environment: str, deployment: Placed) -> None:
        files.materialise(self._home, environment, deployment.digest, deployment.files, self._fetch)

    async def close(self) -> None:
        for task in self._making.values():
            task.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)
