"""Model folders of wanted deployments, and the libraries that they run with: made in the background, so that routing
never waits for them.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from modelyard.deliver.deployments import files, libraries, places
from modelyard.deliver.deployments.placement import Placed
from modelyard.domain.errors import ModelyardError
from modelyard.domain.serving import Libraries
from modelyard.kit.clock import now_ms

RETRY_S = 5.0
logger = logging.getLogger("modelyard.controller")


class Copies:
    """Which folders are there, which are being made, and why one cannot be."""

    def __init__(self, home: Path, fetch: files.Fetch, done: Callable[[], None]) -> None:
        self._home, self._fetch, self._done = home, fetch, done
        self._checked: set[tuple[str, str]] = set()
        self._making: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._failed: dict[tuple[str, str], tuple[float, str]] = {}
        self._building: dict[tuple[str, str], list[str]] = {}
        self._made_at: dict[tuple[str, str], int] = {}

    def want(self, environment: str, deployment: Placed, wanted: Libraries) -> None:
        """Have the folder made, or checked if it is there; what failed is tried again after RETRY_S."""
        key = (environment, deployment.digest)
        failed = self._failed.get(key)
        late = failed is not None and time.monotonic() - failed[0] < RETRY_S
        if key not in self._checked and key not in self._making and not late:
            self._making[key] = asyncio.ensure_future(self._make(key, deployment, wanted))

    def ready(self, environment: str, deployment: Placed) -> bool:
        """Whether folder and libraries are there; its worker checks every digest before it loads anything."""
        folder = places.models(self._home, environment) / deployment.digest
        return folder.exists() and libraries.chosen(self._home, environment, deployment.digest) is not None

    def failure(self, environment: str, digest: str) -> str | None:
        """Why they cannot be made, as of the last attempt."""
        failed = self._failed.get((environment, digest))
        return failed[1] if failed else None

    def failures(self, environment: str) -> dict[str, str]:
        """Why folders and libraries cannot be made, by digest."""
        return {digest: why for (held, digest), (_, why) in self._failed.items() if held == environment}

    def building(self, environment: str, digest: str) -> list[str]:
        """In what the version's libraries differ from ours, while its environment is built; else nothing."""
        return self._building.get((environment, digest), [])

    def made_at(self, environment: str, digest: str) -> int:
        """When this process had folder and libraries ready, in milliseconds; 0 if it has not yet."""
        return self._made_at.get((environment, digest), 0)

    async def _make(self, key: tuple[str, str], deployment: Placed, wanted: Libraries) -> None:
        environment, digest = key
        try:
            await asyncio.to_thread(self._copy, environment, deployment, wanted)
        except (OSError, ModelyardError) as error:
            logger.warning("%s cannot be prepared for %s: %s", digest[:12], environment, error)
            self._failed[key] = (time.monotonic(), str(error))
        else:
            self._checked.add(key)
            self._failed.pop(key, None)
            self._made_at[key] = now_ms()
        finally:
            del self._making[key]
            self._building.pop(key, None)
            self._done()

    def _copy(self, environment: str, deployment: Placed, wanted: Libraries) -> None:
        digest = deployment.digest
        folder = files.materialise(self._home, environment, digest, deployment.files, self._fetch)
        needs, why = libraries.differences(folder, wanted)
        if why:
            self._building[environment, digest] = why
        libraries.prepare(self._home, environment, digest, needs, why)

    async def close(self) -> None:
        for task in self._making.values():
            task.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)
