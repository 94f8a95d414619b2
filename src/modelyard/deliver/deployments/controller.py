"""The controller: compares what the database wants with what runs, and takes one step at a time.

Every step is written to the database before the data plane hears of it, and the files of the data plane are derived
from the database alone; so a crash between any two steps is mended by the next turn.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from modelyard.deliver.deployments import files, judgement, places, records
from modelyard.deliver.deployments.judgement import Outcome
from modelyard.deliver.deployments.records import Deployment, Endpoint, Rollout
from modelyard.deliver.serving import probe
from modelyard.deliver.serving.upstream import WorkerLost
from modelyard.domain.project import Project, seconds, share
from modelyard.domain.states import RolloutState
from modelyard.events.leases import Leases
from modelyard.kit.clock import now_ms
from modelyard.registry import versions
from modelyard.store.database import Store
from modelyard.store.objects.port import Objects

TURN_S = 0.25
READY_MS = 120_000
"""How long a worker may take until it answers; then its rollout is aborted."""
PATIENCE = 3
"""A step waits this many bake times for enough traffic to judge by; then it asks a person."""
Invokers = Callable[[Connection, str], dict[str, str]]
logger = logging.getLogger("modelyard.controller")


@dataclass(frozen=True)
class _Wanted:
    """One environment as the database has it."""

    endpoints: list[tuple[Endpoint, Rollout | None]]
    deployments: dict[str, Deployment]
    manifests: dict[str, list[versions.ManifestFile]]
    tokens: dict[str, str]


class Controller:
    """One for a server; `run` goes on until cancelled. Of several, the one with the lease steps rollouts."""

    def __init__(
        self,
        store: Store,
        objects: Objects,
        home: Path,
        project: Project,
        invokers: Invokers,
        leases: Leases | None = None,
    ) -> None:
        self._leases = leases
        self._store, self._objects, self._home, self._project = store, objects, home, project
        self._invokers = invokers
        self._wake = asyncio.Event()
        loop = asyncio.get_running_loop()
        store.on_commit(lambda: loop.call_soon_threadsafe(self._wake.set))

    async def run(self) -> None:
        while True:
            for environment in self._project.environments:
                try:
                    await self.turn(environment)
                except Exception:
                    logger.exception("a turn for %s failed; it is tried again", environment)
            try:
                async with asyncio.timeout(TURN_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def turn(self, environment: str) -> None:
        """Bring one environment a step nearer to what is wanted."""
        wanted = await self._store.read(lambda conn: self._read(conn, environment))
        await asyncio.to_thread(self._write, environment, wanted)
        if self._leases is not None and wanted.endpoints and not await self._leases.hold(f"rollouts/{environment}"):
            return
        stats: dict[str, Any] | None = None
        for endpoint, rollout in wanted.endpoints:
            if endpoint.warm_until is not None and endpoint.warm_until < now_ms():
                await self._store.write(lambda conn, endpoint=endpoint: records.retire_cold(conn, endpoint))
            if rollout is None:
                continue
            if rollout.state in (RolloutState.STARTING, RolloutState.SHIFTING) and stats is None:
                stats = await probe.ask(str(places.admin_socket(self._home, environment))) or {}
            await self._advance(endpoint, rollout, wanted.deployments[rollout.to_deployment], stats or {})

    def _read(self, conn: Connection, environment: str) -> _Wanted:
        found = [
            (endpoint, records.active_rollout(conn, environment, endpoint.name))
            for endpoint in records.find_endpoints(conn, environment)
        ]
        wanted: set[str] = set()
        for endpoint, rollout in found:
            wanted |= {item for item in (endpoint.live, endpoint.previous) if item}
            if rollout is not None and rollout.state is not RolloutState.PENDING:
                wanted.add(rollout.to_deployment)
            elif rollout is not None:
                wanted.add(rollout.to_deployment)
        held = {deployment: records.get(conn, deployment) for deployment in sorted(wanted)}
        manifests = {item.id: versions.files(conn, item.model, item.version) for item in held.values()}
        return _Wanted(found, held, manifests, self._invokers(conn, environment))

    def _write(self, environment: str, wanted: _Wanted) -> None:
        """Derive the data plane's files."""
        folder = places.serving(self._home, environment)
        specs: list[Any] = []
        for item in wanted.deployments.values():
            manifest = wanted.manifests[item.id]
            files.materialise(self._home, environment, item.digest, manifest, self._objects)
            specs.append(
                files.worker_spec(self._home, environment, item.id, item.model, item.version, item.digest, manifest)
            )
        files.write_if_changed(folder / "desired.json", {"environment": environment, "workers": specs})
        routed = {
            endpoint.name: self._routes(environment, endpoint, rollout, wanted.deployments)
            for endpoint, rollout in wanted.endpoints
        }
        routing = {"environment": environment, "tokens": wanted.tokens, "endpoints": routed}
        files.write_if_changed(folder / "routing.json", routing)

    def _routes(
        self, environment: str, endpoint: Endpoint, rollout: Rollout | None, held: dict[str, Deployment]
    ) -> dict[str, Any]:
        moving = rollout is not None and rollout.state in (RolloutState.SHIFTING, RolloutState.PAUSED)
        moved = rollout.share if rollout is not None and moving else 0.0
        weights: dict[str, float] = {}
        if endpoint.previous:
            weights[endpoint.previous] = 0.0
        if rollout is not None:
            weights[rollout.to_deployment] = moved
        if endpoint.live:
            weights[endpoint.live] = 1.0 - moved
        routes = [
            {
                "deployment": deployment,
                "version": held[deployment].version,
                "weight": weight,
                "sockets": [str(places.worker_socket(self._home, deployment))],
            }
            for deployment, weight in weights.items()
        ]
        log = {"folder": str(places.predictions(self._home, environment, endpoint.name))}
        return {"model": endpoint.model, "routes": routes, "log": log}

    async def _advance(self, endpoint: Endpoint, rollout: Rollout, target: Deployment, stats: dict[str, Any]) -> None:
        if rollout.state is RolloutState.PENDING:
            await self._begin(rollout, target)
        elif rollout.state is RolloutState.STARTING:
            await self._warm(endpoint, rollout, target, stats)
        elif rollout.state is RolloutState.SHIFTING:
            await self._shift(rollout, target, stats)

    async def _begin(self, rollout: Rollout, target: Deployment) -> None:
        """Start once the version serves in the environment that must come before."""
        earlier = self._project.environments[rollout.environment].after
        if earlier is not None and not await self._store.read(
            lambda conn: records.serves(conn, earlier, target.model, target.version)
        ):
            return
        await self._store.write(
            lambda conn: records.move(
                conn, rollout, RolloutState.STARTING, "rollout.started", step_started_at=now_ms()
            )
        )

    async def _warm(self, endpoint: Endpoint, rollout: Rollout, target: Deployment, stats: dict[str, Any]) -> None:
        """Wait for the worker; try it with its own example; then let traffic come."""
        socket = str(places.worker_socket(self._home, target.id))
        state = await probe.ask(socket)
        if state is None:
            waited = now_ms() - (rollout.step_started_at or rollout.started_at)
            if waited > READY_MS or self._gave_up(rollout.environment, target.id):
                await self._abort(rollout, f"the worker did not start: {self._last_words(target)}")
            return
        failure = await self._smoke(rollout.environment, socket, target)
        if failure:
            await self._abort(rollout, failure)
            return
        policy = records.policy_of(rollout)
        if endpoint.live is None or policy.strategy == "all-at-once":
            await self._store.write(lambda conn: records.complete(conn, self._project, rollout))
            return
        await self._step(rollout, 0, self._counters(stats, target))

    async def _smoke(self, environment: str, socket: str, target: Deployment) -> str | None:
        """What went wrong with the version's own example; None when it was answered, or there is none."""
        example = places.models(self._home, environment) / target.digest / "serving_input_example.json"
        if not example.exists():
            return None
        try:
            status, body = await probe.predict(socket, example.read_bytes())
        except (WorkerLost, TimeoutError) as error:
            return f"the smoke request got no answer ({type(error).__name__})"
        return (
            None
            if status == 200
            else f"the smoke request was answered {status}: {body[:200].decode('utf-8', 'replace')}"
        )

    async def _shift(self, rollout: Rollout, target: Deployment, stats: dict[str, Any]) -> None:
        """Judge the step by its own requests: abort, wait, ask a person, go on, or complete."""
        policy, now = records.policy_of(rollout), now_ms()
        bounds = self._project.environments[rollout.environment].abort_if
        seen = judgement.observed(self._counters(stats, target), rollout.baseline)
        verdict = judgement.judge(seen, bounds, policy.min_requests)
        if verdict.outcome is Outcome.FAILED:
            await self._abort(rollout, verdict.reason)
            return
        bake_ms = seconds(policy.bake) * 1000
        baked = now - (rollout.step_started_at or now)
        if baked < bake_ms:
            return
        if verdict.outcome is Outcome.INCONCLUSIVE:
            if baked > PATIENCE * bake_ms:
                reason = f"too little traffic to judge by: {verdict.reason}"
                await self._store.write(
                    lambda conn: records.move(conn, rollout, RolloutState.PAUSED, "rollout.paused", reason=reason)
                )
            return
        if rollout.step + 1 < len(policy.steps):
            await self._step(rollout, rollout.step + 1, self._counters(stats, target))
        else:
            await self._store.write(lambda conn: records.complete(conn, self._project, rollout))

    async def _step(self, rollout: Rollout, step: int, baseline: dict[str, Any] | None) -> None:
        moved = share(records.policy_of(rollout).steps[step])
        values = {"step": step, "share": moved, "step_started_at": now_ms(), "baseline": baseline, "reason": None}
        await self._store.write(
            lambda conn: records.move(conn, rollout, RolloutState.SHIFTING, "rollout.step", **values)
        )

    async def _abort(self, rollout: Rollout, reason: str) -> None:
        await self._store.write(
            lambda conn: records.finish(conn, rollout, RolloutState.ABORTED, reason, actor="modelyard")
        )

    def _counters(self, stats: dict[str, Any], target: Deployment) -> dict[str, Any] | None:
        return stats.get("endpoints", {}).get(target.endpoint, {}).get("deployments", {}).get(target.id)

    def _observed(self, environment: str) -> dict[str, Any]:
        try:
            return json.loads((places.serving(self._home, environment) / "observed.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def _gave_up(self, environment: str, deployment: str) -> bool:
        """Whether the worker died again and again instead of starting."""
        worker = self._observed(environment).get("workers", {}).get(f"w-{deployment[:16]}", {})
        return worker.get("restarts", 0) >= 3

    def _last_words(self, target: Deployment) -> str:
        log = self._home / "logs" / f"worker-w-{target.id[:16]}.log"
        try:
            lines = log.read_text(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return "no worker was started; is the supervisor running (modelyard up)?"
        return lines[-1][:300] if lines else "it left no word in its log"
