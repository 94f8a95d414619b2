"""The pull agent: keeps a machine that only serves in line with its hub, and serving while the hub is gone."""

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from modelyard.deliver.deployments import measuring, offline, places
from modelyard.deliver.deployments.copies import Copies
from modelyard.deliver.deployments.placement import Placement
from modelyard.deliver.deployments.shipping import SPOOL_BYTES, Receiver, Shipper
from modelyard.deliver.serving import probe
from modelyard.domain.errors import Invalid, ModelyardError, NotFound, Unavailable

PULL_S = 0.5
LONGEST_S = 10.0
logger = logging.getLogger("modelyard.agent")


class Hub(Receiver, Protocol):
    """What the agent asks of its hub, with its own credential; implemented over the client's calls."""

    def placement(self) -> Placement: ...

    def report(self, said: dict[str, Any]) -> list[str]:
        """The ids of the operations that the hub recorded."""
        ...

    def fetch(self, model: str, version: int, path: str, target: Path) -> None:
        """Write a version's file into a new file."""
        ...


class Agent:
    """Writes the same files as the hub's controller does, from what the hub answers; the supervisor follows them."""

    def __init__(
        self, hub: Hub, home: Path, environment: str, spool_bytes: int = SPOOL_BYTES, ray: str | None = None
    ) -> None:
        """ray: the cluster that runs this machine's workers, whatever the hub's run on; None: processes here."""
        self._hub, self._home, self._environment, self._ray = hub, home, environment, ray
        self._wake = asyncio.Event()
        self._where: dict[str, tuple[str, int, str]] = {}
        self._copies = Copies(home, self._fetch, self._wake.set)
        self._shipper = Shipper(hub, home, environment, spool_bytes)
        self.away = False

    async def run(self) -> None:
        """Until cancelled: pull, and send the prediction log beside it."""
        try:
            await asyncio.gather(self._keep_pulling(), self._shipper.run())
        finally:
            await self._copies.close()

    async def _keep_pulling(self) -> None:
        """Pausing longer while the hub does not answer."""
        pause = PULL_S
        while True:
            try:
                await self.pull()
                pause = PULL_S
                if self.away:
                    logger.warning("the hub is back")
                self.away = False
            except ModelyardError as error:
                if not self.away:
                    logger.warning("the hub does not answer, serving goes on: %s", error)
                self.away = True
                pause = min(LONGEST_S, pause * 1.5) if isinstance(error, Unavailable) else LONGEST_S
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def pull(self) -> None:
        """Report first, so that what was done here is in what comes back. Raises ModelyardError."""
        done = offline.pending(self._home, self._environment)
        stats = await probe.ask(str(places.admin_socket(self._home, self._environment)))
        said: dict[str, Any] = {
            "workers": self._workers(),
            "stats": stats,
            "log": await asyncio.to_thread(self._shipper.report),
            "operations": [msgspec.to_builtins(operation) for _, operation in done],
        }
        recorded = set(
            await asyncio.to_thread(self._report, said, {"unready": self._copies.failures(self._environment)})
        )
        for path, operation in done:
            if operation.id in recorded:
                path.unlink(missing_ok=True)
        since = offline.turns(self._home, self._environment)
        wanted = (await asyncio.to_thread(self._hub.placement)).at(self._ray)
        for deployment in wanted.deployments.values():
            for file in deployment.files:
                self._where[file.digest] = (deployment.model, deployment.version, file.path)
            self._copies.want(self._environment, deployment, wanted.serving(deployment).libraries)
        ready = partial(self._copies.ready, self._environment)
        await asyncio.to_thread(offline.publish, self._home, wanted, ready, since)

    def _workers(self) -> dict[str, Any]:
        """What runs, and the last words of what ended."""
        found = measuring.workers(self._home, self._environment)
        return {
            name: told | {"words": measuring.last_words(self._home, name)} if told["restarts"] else told
            for name, told in found.items()
        }

    def _report(self, said: dict[str, Any], newer: dict[str, Any]) -> list[str]:
        """Tell the hub, with what is worth telling of `newer` unless the hub is too old to know it."""
        told = {name: value for name, value in newer.items() if value}
        try:
            return self._hub.report(said | told)
        except Invalid:
            if not told:
                raise
            return self._hub.report(said)

    def _fetch(self, digest: str, target: Path) -> None:
        if digest not in self._where:
            raise NotFound(f"Nothing that is placed here has the content {digest[:16]}.")
        self._hub.fetch(*self._where[digest], target)
