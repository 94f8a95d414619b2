"""One rollout, one step further: begin, warm up, shift, judge; and the watch over the live one after it."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from modelyard.deliver.deployments import judgement, libraries, measuring, places, records, rollouts, verdicts
from modelyard.deliver.deployments.before_traffic import Plan
from modelyard.deliver.deployments.copies import Copies
from modelyard.deliver.deployments.judgement import Outcome, Verdict
from modelyard.deliver.deployments.measuring import Traffic, Unmeasured
from modelyard.deliver.deployments.records import Deployment, Endpoint, Rollout
from modelyard.deliver.deployments.remembered import Remembered
from modelyard.deliver.serving import probe
from modelyard.deliver.serving.starts import TRIES
from modelyard.domain import freezes
from modelyard.domain.environments import Environment
from modelyard.domain.project import Project, seconds
from modelyard.domain.states import RolloutState
from modelyard.kit.clock import iso, now_ms
from modelyard.kit.files import atomic_write
from modelyard.registry import evidence
from modelyard.store.database import Store
from modelyard.store.objects.port import Objects
from modelyard.store.tables.tracking import artifacts

READY_MS = 120_000
"""How long a worker may take until it answers; then its rollout is aborted."""
PATIENCE = 3
"""A step waits this many bake times for enough traffic to judge by; then it asks a person."""
LEAST_WAIT_MS = 10_000
"""How long a measurement may fail before a person is asked, however short the bake time."""
CHECKS_S = 120.0
DEATHS = 2
"""A worker that ends so often in one step is not good enough to go on."""


class Progress:
    """Everything that it does is written to the database first; the data plane follows from there."""

    def __init__(self, store: Store, objects: Objects, home: Path, project: Project, copies: Copies) -> None:
        self._store, self._objects, self._home, self._project = store, objects, home, project
        self._copies = copies
        self._unmeasured = Remembered[tuple[float, int]]()
        self._looked = Remembered[float]()
        self._extra = verdicts.Extra(home)

    async def advance(self, endpoint: Endpoint, rollout: Rollout, target: Deployment, traffic: Traffic) -> None:
        """Take the rollout one step further, or leave it where it has to wait."""
        if rollout.state is RolloutState.PENDING:
            await self._begin(rollout, target)
        elif rollout.state is RolloutState.STARTING:
            await self._warm(endpoint, rollout, target, traffic)
        elif rollout.state is RolloutState.SHIFTING:
            await self._shift(endpoint, rollout, target, traffic)
        elif rollout.state is RolloutState.PAUSED:
            await self._hold(endpoint, rollout, target, traffic)

    async def watch(self, endpoint: Endpoint, traffic: Traffic) -> None:
        """After a rollout: roll back by ourselves when the new live deployment breaks a bound, as long as the one
        before is warm.
        """
        watch, live = endpoint.watch, endpoint.live
        if watch is None or live is None or watch["deployment"] != live or endpoint.previous is None:
            return
        try:
            if watch["baseline"] is None:
                baseline = traffic.baseline(endpoint.name, live, None)
                await self._store.write(lambda conn: rollouts.set_watch(conn, endpoint, baseline))
                return
            seen = traffic.since(watch["baseline"], "target", endpoint.name, live)
        except Unmeasured:
            return
        deaths = traffic.deaths_since(watch["baseline"], live)
        bounds = records.bounds_at(self._project, endpoint)
        verdict = judgement.judge(seen, None, bounds, 0, final=False)
        if deaths >= DEATHS:
            verdict = Verdict(Outcome.FAILED, f"its worker ended {deaths} times since it went live")
        if verdict.outcome is Outcome.FAILED:
            await self._store.write(
                lambda conn: rollouts.rollback(
                    conn,
                    self._project,
                    endpoint.environment,
                    endpoint.name,
                    verdict.reason,
                    actor=rollouts.PLATFORM,
                    away=live,
                )
            )

    async def _begin(self, rollout: Rollout, target: Deployment) -> None:
        """Start once the version has served in the environment that must come before, outside of freeze windows."""
        waits = None if rollout.kind == records.ROLLBACK else await self._why_wait(rollout, target)
        if waits is not None:
            if waits != rollout.reason:
                await self._store.write(lambda conn: rollouts.note(conn, rollout, waits))
            return
        values = {"step_started_at": now_ms(), "reason": None}
        await self._move(rollout, RolloutState.STARTING, "rollout.started", **values)

    async def _why_wait(self, rollout: Rollout, target: Deployment) -> str | None:
        earlier = self._environment(rollout.environment).after
        missing = await self._store.read(lambda conn: _missing_in(conn, earlier, target)) if earlier else None
        return missing or self._frozen(rollout)

    async def _warm(self, endpoint: Endpoint, rollout: Rollout, target: Deployment, traffic: Traffic) -> None:
        """Wait for the worker; try it before any traffic; then let traffic come."""
        broken = self._copies.failure(target.environment, target.digest)
        if broken is not None:
            await self._abort(rollout, f"it cannot be prepared: {broken}")
            return
        if await self._is_built(rollout, target):
            return
        if await probe.ask(str(places.worker_socket(self._home, target.id))) is None:
            since = self._copies.made_at(target.environment, target.digest)
            waited = now_ms() - max(since, rollout.step_started_at or rollout.started_at)
            gave_up = traffic.workers.get(places.worker_id(target.id), {}).get("restarts", 0) >= TRIES
            if waited > READY_MS or gave_up:
                words = measuring.last_words(self._home, places.worker_id(target.id))
                words = words or "it left no word in its log; is the supervisor running (modelyard up)?"
                await self._abort(rollout, f"the worker did not start: {words}")
            return
        own = libraries.chosen(self._home, target.environment, target.digest)
        checks = [str(own)] if own is not None and own.python else []
        if rollout.kind != records.ROLLBACK:
            try:
                found = await self._examine(endpoint, target)
            except Unmeasured as error:
                await self._wait_or_ask(rollout, str(error))
                return
            problem = _problem(found, rollout, target)
            if problem is not None:
                await self._abort(rollout, problem)
                return
            checks += found["passed"]
        policy = records.policy_of(rollout)
        if endpoint.live is None or policy.strategy == "all-at-once":
            told = {"checks": checks}
            await self._store.write(lambda conn: rollouts.complete(conn, self._project, rollout, told=told))
            return
        await self._step(endpoint, rollout, 0, traffic, checks)

    async def _is_built(self, rollout: Rollout, target: Deployment) -> bool:
        """Whether the version's environment is being built, which takes its time; that is noted once."""
        why = self._copies.building(target.environment, target.digest)
        said = f"its environment is built: {'; '.join(why)}"
        if why and rollout.reason != said:
            await self._store.write(lambda conn: rollouts.note(conn, rollout, said))
        return bool(why)

    async def _examine(self, endpoint: Endpoint, target: Deployment) -> dict[str, list[str]]:
        """What the checks before traffic found. Raises Unmeasured."""
        before, environment = self._environment(target.environment).before_traffic, target.environment
        live = await self._store.read(lambda conn: records.get(conn, endpoint.live) if endpoint.live else None)
        models = places.models(self._home, environment)
        reference = await self._reference(target)
        plan = Plan(
            socket=str(places.worker_socket(self._home, target.id)),
            model_dir=str(models / target.digest),
            live_dir=str(models / live.digest) if live and (models / live.digest / "MLmodel").exists() else None,
            reference=None if reference is None else str(reference),
            **msgspec.structs.asdict(before),
        )
        file = places.serving(self._home, environment) / "checks" / f"{target.id[:16]}.json"
        atomic_write(file, msgspec.json.encode(plan), mode=0o600, durable=False)
        command = [*("-m", "modelyard.deliver.deployments.before_traffic"), str(file)]
        printed = await measuring.run_helper([sys.executable, *command], CHECKS_S)
        file.unlink(missing_ok=True)
        return msgspec.json.decode(printed)

    async def _reference(self, target: Deployment) -> Path | None:
        """The stored file of the reference window that the version was registered with."""

        def digest(conn: Any) -> str | None:
            content = evidence.evaluation(conn, target.model, target.version) or {}
            query = select(artifacts.c.digest).where(artifacts.c.path == (content.get("reference") or ""))
            return conn.execute(query).scalar()

        found = await self._store.read(digest)
        if found is None:
            return None
        here = self._objects.local(found)
        if here is not None:
            return here
        copy = places.serving(self._home, target.environment) / "checks" / found
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(self._objects.fetch, found, copy)
        return copy

    async def _shift(self, endpoint: Endpoint, rollout: Rollout, target: Deployment, traffic: Traffic) -> None:
        """Judge the step by its own requests: abort, wait, ask a person, go on, or complete."""
        policy, now = records.policy_of(rollout), now_ms()
        bake_ms = seconds(policy.bake) * 1000
        baked, looked = now - (rollout.step_started_at or now), self._looked_ms(rollout)
        if traffic.restarted(rollout.baseline):  # what was counted before is gone: the step needs its time anew
            baseline = traffic.baseline(endpoint.name, target.id, endpoint.live)
            await self._store.write(lambda conn: rollouts.begin_step_again(conn, rollout, baseline))
            return
        try:
            verdict = self._judge(endpoint, rollout, target, traffic, final=baked >= bake_ms)
        except Unmeasured as error:
            await self._wait_or_ask(rollout, str(error))
            return
        self._unmeasured.forget(rollout)
        if verdict.outcome is Outcome.FAILED:
            await self._abort(rollout, verdict.reason)
        elif policy.strategy in ("ab-test", "bandit") and verdict.outcome is Outcome.SUCCEEDED:
            await self._go_on(endpoint, rollout, traffic, verdict.reason)
        elif policy.strategy == "bandit" and (share := self._share(rollout)) is not None:
            await self._move(rollout, RolloutState.SHIFTING, "rollout.step", share=share, reason=verdict.reason)
        elif baked < bake_ms:
            return
        elif verdict.outcome is Outcome.INCONCLUSIVE:
            slow = verdicts.beyond_counters(policy, records.bounds_at(self._project, endpoint))
            if slow and verdict.reason != rollout.reason:
                await self._store.write(lambda conn: rollouts.note(conn, rollout, verdict.reason))
            if min(baked, looked) > max(PATIENCE * bake_ms, LEAST_WAIT_MS if slow else 0):
                await self._lost_patience(rollout, target, verdict)
        else:
            await self._go_on(endpoint, rollout, traffic, verdict.reason)

    def _share(self, rollout: Rollout) -> float | None:
        """The share that a bandit's challenger should have by now; None when it has that, or must not have more."""
        wanted = self._extra.share(rollout)
        widens = wanted is not None and wanted > rollout.share
        return None if widens and self._frozen(rollout) is not None else wanted

    def _looked_ms(self, rollout: Rollout) -> float:
        """How long this process has looked at the step: while no server ran, its traffic may not have begun."""
        now = time.monotonic()
        since = self._looked.get(rollout, rollout.step_started_at)
        if since is None:
            since = now
            self._looked.put(rollout, now, rollout.step_started_at)
        return (now - since) * 1000

    async def _lost_patience(self, rollout: Rollout, target: Deployment, verdict: Verdict) -> None:
        """Ask a person; but a worker that just starts again answers nobody yet: its step gets its time anew."""
        if await probe.ask(str(places.worker_socket(self._home, target.id))) is None:
            await self._store.write(lambda conn: rollouts.begin_step_again(conn, rollout, rollout.baseline))
        else:
            await self._pause(rollout, f"inconclusive: {verdict.reason}")

    async def _hold(self, endpoint: Endpoint, rollout: Rollout, target: Deployment, traffic: Traffic) -> None:
        """A paused rollout goes no further, but it has traffic: what fails is taken back all the same."""
        try:
            verdict = self._judge(endpoint, rollout, target, traffic, final=False)
        except Unmeasured:
            return
        if verdict.outcome is Outcome.FAILED:
            await self._abort(rollout, verdict.reason)

    async def _go_on(self, endpoint: Endpoint, rollout: Rollout, traffic: Traffic, why: str) -> None:
        """The step succeeded: the next one, or all of the traffic, unless a freeze or the strategy holds it."""
        policy = records.policy_of(rollout)
        frozen = self._frozen(rollout)
        if frozen is not None:
            if frozen != rollout.reason:
                await self._store.write(lambda conn: rollouts.note(conn, rollout, frozen))
        elif rollout.step + 1 < len(policy.shares()):
            await self._step(endpoint, rollout, rollout.step + 1, traffic, [])
        elif policy.strategy == "shadow" and rollout.share == 0:
            await self._pause(rollout, "the shadow succeeded: promote it or abort it")
        else:
            await self._store.write(lambda conn: rollouts.complete(conn, self._project, rollout, why=why))

    def _judge(
        self, endpoint: Endpoint, rollout: Rollout, target: Deployment, traffic: Traffic, *, final: bool
    ) -> Verdict:
        """The verdict on everything that the policy measures. Raises Unmeasured."""
        policy, bounds = records.policy_of(rollout), records.bounds_at(self._project, endpoint)
        seen = traffic.since(rollout.baseline, "target", endpoint.name, target.id)
        champion = traffic.since(rollout.baseline, "champion", endpoint.name, endpoint.live)
        deaths = traffic.deaths_since(rollout.baseline, target.id)
        if deaths >= DEATHS:
            return Verdict(Outcome.FAILED, f"its worker ended {deaths} times during the step")
        if policy.strategy == "shadow" and rollout.share == 0:
            seen = seen.as_shadow()
        beside = None if policy.strategy == "blue-green" else champion
        first = judgement.judge(seen, beside, bounds, policy.min_requests, final=final)
        if first.outcome is Outcome.FAILED:
            return first
        return self._extra.judge(first, endpoint, rollout, target, bounds, final=final)

    async def _step(
        self, endpoint: Endpoint, rollout: Rollout, step: int, traffic: Traffic, checks: list[str]
    ) -> None:
        try:
            baseline = traffic.baseline(endpoint.name, rollout.to_deployment, endpoint.live)
        except Unmeasured as error:  # traffic is not moved while nobody can see how it fares
            await self._wait_or_ask(rollout, str(error))
            return
        share = records.policy_of(rollout).shares()[step]
        values = {"step": step, "share": share, "step_started_at": now_ms(), "baseline": baseline, "reason": None}
        await self._move(rollout, RolloutState.SHIFTING, "rollout.step", told={"checks": checks}, **values)

    async def _wait_or_ask(self, rollout: Rollout, problem: str) -> None:
        """Count a failed measurement; when it goes on failing, ask a person instead of guessing."""
        first, count = self._unmeasured.get(rollout) or (time.monotonic(), 0)
        self._unmeasured.put(rollout, (first, count + 1))
        most_ms = max(LEAST_WAIT_MS, PATIENCE * seconds(records.policy_of(rollout).bake) * 1000)
        if (time.monotonic() - first) * 1000 < most_ms:
            return
        self._unmeasured.forget(rollout)
        reason = f"it cannot be measured ({count + 1} attempts failed): {problem}"
        if rollout.state is RolloutState.STARTING:
            await self._abort(rollout, reason)
        else:
            await self._pause(rollout, reason)

    async def _move(self, rollout: Rollout, state: RolloutState, event: str, **values: Any) -> None:
        await self._store.write(lambda conn: rollouts.move(conn, rollout, state, event, **values))

    async def _pause(self, rollout: Rollout, reason: str) -> None:
        await self._move(rollout, RolloutState.PAUSED, "rollout.paused", reason=reason)

    async def _abort(self, rollout: Rollout, reason: str) -> None:
        await self._store.write(lambda conn: rollouts.abort(conn, rollout, reason))

    def _environment(self, name: str) -> Environment:
        return self._project.environments[name]

    def _frozen(self, rollout: Rollout) -> str | None:
        until = freezes.frozen_until(self._environment(rollout.environment).freeze, now_ms())
        return None if until is None else f"frozen until {iso(int(until.timestamp() * 1000))}"


def _missing_in(conn: Connection, earlier: str, target: Deployment) -> str | None:
    """Why a version has not proved itself in the environment that comes before; None when it has."""
    if records.proved(conn, earlier, target):
        return None
    waits = f"waits until v{target.version} serves in {earlier}"
    newest = next(iter(records.history(conn, earlier, target.model, 1)), None)
    if newest is None or newest.ended_at is None:
        return waits
    if records.get(conn, newest.to_deployment).version == target.version and newest.state is RolloutState.ABORTED:
        return f"{waits}, where its rollout was aborted: {newest.reason}"
    return f"{waits}: modelyard deploy {target.model}/{target.version} --to {earlier}"


def _problem(found: dict[str, list[str]], rollout: Rollout, target: Deployment) -> str | None:
    """Why a deployment gets no traffic, after the checks before it."""
    if found["failed"]:
        return "; ".join(found["failed"])
    if found["breaking"] and rollout.accept_breaking is None:
        changes = "; ".join(found["breaking"])
        command = f"modelyard deploy {target.model}/{target.version} --to {target.environment}"
        return f'callers would break: {changes}. If they know: {command} --accept-breaking "why"'
    return None
