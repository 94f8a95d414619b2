"""Running a graph: what is cached is not run, what is independent runs side by side, what fails is named."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard.build.pipelines import registration
from modelyard.build.pipelines.cache import Cache, Result, Stored
from modelyard.build.pipelines.execution import StepProcess, place, run_here
from modelyard.build.pipelines.fingerprint import Fingerprints
from modelyard.build.pipelines.graph import Graph, Node, Output
from modelyard.build.pipelines.hub import Hub
from modelyard.domain.errors import Invalid, ModelyardError, StepFailed
from modelyard.kit.hashing import digest_json

Progress = Callable[[str, str, float], None]
"""Called with (step, state, seconds): state is started, cached, finished, failed or retried."""
POLL_S = 0.005
BRIEF_S = 0.2
"""A step that took less when it last ran is not worth a process of its own."""


@dataclass
class PipelineResult:
    """What a run did: each step's state, and the versions that it registered."""

    pipeline_run_id: str | None
    states: dict[str, str] = field(default_factory=dict[str, str])
    versions: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    seconds: float = 0.0


class Runner:
    """Runs one graph once."""

    def __init__(
        self,
        graph: Graph,
        project: Path,
        module: str,
        home: Path,
        hub: Hub | None = None,
        progress: Progress | None = None,
        fresh: frozenset[str] = frozenset(),
        cause: str | None = None,
        workers: int | None = None,
    ) -> None:
        unknown = sorted(fresh - {node.name for node in graph.nodes})
        if unknown:
            known = ", ".join(node.name for node in graph.nodes)
            raise Invalid(f"There is no step {unknown[0]!r} to run afresh.", remedy=f"Steps: {known}.")
        self._graph, self._project, self._module, self._hub = graph, project, module, hub
        self._cache_root = home / "cache"
        self._cache = Cache(self._cache_root)
        self._progress = progress or (lambda step, state, seconds: None)
        self._fresh, self._cause = fresh, cause
        self._fingerprints = Fingerprints(project)
        self._held: dict[str, Result] = {}
        self._memory: dict[str, list[Any]] = {}
        self._awaiting = {node.name: 0 for node in graph.nodes}
        for node in graph.nodes:
            for parent in node.parents():
                self._awaiting[parent.name] += 1
        self._workers = workers or max(1, os.cpu_count() or 1)
        self._result = PipelineResult(None)

    def run(self) -> PipelineResult:
        """The result. Raises the failed step's error; what finished before stays cached."""
        started = time.perf_counter()
        if self._hub is not None:
            code = {"module": self._module, "commit": _commit(self._project)}
            params = {name: _shown(value) for name, value in self._graph.params.items()}
            self._result.pipeline_run_id = self._hub.start_pipeline_run(
                self._graph.pipeline, params, code, self._cause
            )
        try:
            self._run_steps()
            for node in self._graph.nodes:
                if node.registration is not None:
                    self._register(node)
            if self._hub is not None and not self._result.versions:
                self._track()
        except ModelyardError as error:
            self._finish(str(error))
            raise
        except KeyboardInterrupt:
            self._finish("stopped by hand")
            raise
        self._finish(None)
        self._result.seconds = time.perf_counter() - started
        return self._result

    def _run_steps(self) -> None:
        waiting = [node for node in self._graph.nodes if node.registration is None]
        running: dict[str, _Running] = {}
        try:
            while waiting or running:
                ready = [node for node in waiting if all(parent.name in self._held for parent in node.parents())]
                for node in ready[: self._workers - len(running)]:
                    waiting.remove(node)
                    alone = len(ready) == 1 and not running
                    started = self._start(node, alone)
                    if started is not None:
                        running[node.name] = started
                for name, job in list(running.items()):
                    if self._poll(job):
                        del running[name]
                if running:
                    time.sleep(POLL_S)
        finally:
            for job in running.values():
                job.stop()

    def _start(self, node: Node, alone: bool) -> "_Running | None":
        """Take the step's result from the cache, or run it here, or start it in a process of its own."""
        key = self._key(node)
        lease = self._cache.lease(key)
        lease.__enter__()
        job = _Running(node, key, lease)
        assert node.step is not None, "registration nodes are not started as steps"
        held = self._cache.find(key) if node.step.cache and node.name not in self._fresh else None
        if held is not None:
            self._done(job, held, "cached")
            return None
        self._progress(node.name, "started", 0.0)
        isolated = node.step.timeout_s is not None or node.step.resources.memory is not None
        try:
            brief = (self._cache.last_seconds(node.name) or BRIEF_S) < BRIEF_S
            if (alone or brief) and not isolated:
                self._run_alone(job)
                return None
            self._spawn(job)
        except BaseException:
            job.release()
            raise
        return job

    def _run_alone(self, job: "_Running") -> None:
        node = job.node
        assert node.step is not None, "registration nodes are not started as steps"
        while True:
            arguments = {name: self._value(value) for name, value in node.arguments.items()}
            try:
                result, values = run_here(node, arguments, self._cache)
            except StepFailed as error:
                self._retry_or_raise(job, error)
                time.sleep(2.0 ** (job.attempts - 1))
                continue
            self._memory[node.name] = values
            self._cache.put(job.key, node.name, result)
            self._done(job, result, "finished")
            return

    def _spawn(self, job: "_Running") -> None:
        stored = {name: place(value, self._held) for name, value in job.node.arguments.items()}
        job.process = StepProcess(job.node, stored, self._cache_root, self._project, self._module)

    def _poll(self, job: "_Running") -> bool:
        """Whether the job has ended. Raises the step's error after its last retry."""
        if job.process is None:
            if time.monotonic() >= job.retry_at:
                self._spawn(job)
            return False
        try:
            result = job.process.poll()
        except StepFailed as error:
            self._retry_or_raise(job, error)
            job.process, job.retry_at = None, time.monotonic() + 2.0 ** (job.attempts - 1)
            return False
        if result is None:
            return False
        self._cache.put(job.key, job.node.name, result)
        self._done(job, result, "finished")
        return True

    def _retry_or_raise(self, job: "_Running", error: StepFailed) -> None:
        node = job.node
        job.attempts += 1
        if node.step is not None and job.attempts <= node.step.retries:
            self._progress(node.name, "retried", 0.0)
            return
        self._note(node.name, "failed", job.key, 0.0, str(error))
        job.release()
        raise error

    def _done(self, job: "_Running", result: Result, state: str) -> None:
        self._held[job.node.name] = result
        self._result.metrics |= result.metrics
        job.release()
        self._note(job.node.name, state, job.key, result.seconds, None)

    def _note(self, step: str, state: str, key: str, seconds: float, error: str | None) -> None:
        self._result.states[step] = state
        self._progress(step, state, seconds)
        if self._hub is not None and self._result.pipeline_run_id is not None:
            self._hub.note_step(self._result.pipeline_run_id, step, state, key, seconds, error)

    def _key(self, node: Node) -> str:
        """The cache key: code, parameters and input digests."""
        assert node.step is not None, "registration nodes have no key"
        inputs = {name: _identity(place(value, self._held), node) for name, value in node.arguments.items()}
        return digest_json([self._fingerprints.of(node.step.function), inputs])

    def _value(self, value: Any) -> Any:
        """An argument's value: from memory when this is its last reader, else read anew, so that no step sees what
        another one changed in place.
        """
        if isinstance(value, Output):
            name, index = value.node.name, value.index or 0
            self._awaiting[name] -= 1
            if self._awaiting[name] <= 0 and name in self._memory:
                return self._memory.pop(name)[index] if value.node.outputs == 1 else self._memory[name][index]
            return self._cache.load(self._held[name].outputs[index])
        if isinstance(value, dict):
            return {key: self._value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._value(item) for item in value)
        return value

    def _register(self, node: Node) -> None:
        if self._hub is None or self._result.pipeline_run_id is None:
            raise Invalid("Registering a version needs a yard.", remedy="Run it by: modelyard run")
        self._progress(node.name, "started", 0.0)
        started = time.perf_counter()
        stored = {name: place(value, self._held) for name, value in node.arguments.items()}
        values = {name: self._cache.load(v) if isinstance(v, Stored) else v for name, v in stored.items()}
        params = {name: str(_shown(value)) for name, value in self._graph.params.items()}
        params |= {name: value for result in self._held.values() for name, value in result.params.items()}
        request = registration.Request(
            model_name=node.registration or "",
            model=values["model"],
            evaluation=values["evaluation"],
            reference=values["reference"],
            pipeline=self._graph.pipeline,
            pipeline_run_id=self._result.pipeline_run_id,
            params=params,
            metrics=dict(self._result.metrics),
            code={"module": self._module, "commit": _commit(self._project)},
            cause=self._cause,
        )
        self._result.versions.append(registration.register(request, self._hub))
        self._result.states[node.name] = "finished"
        self._note(node.name, "finished", "", time.perf_counter() - started, None)

    def _track(self) -> None:
        """A run for a pipeline that registers nothing."""
        assert self._hub is not None and self._result.pipeline_run_id is not None
        params = {name: str(_shown(value)) for name, value in self._graph.params.items()}
        run = self._hub.create_run(
            self._graph.pipeline, self._graph.pipeline, self._result.pipeline_run_id, params, self._result.metrics, {}
        )
        self._hub.end_run(run.id, "FINISHED")

    def _finish(self, error: str | None) -> None:
        if self._hub is not None and self._result.pipeline_run_id is not None:
            self._hub.finish_pipeline_run(self._result.pipeline_run_id, error)


@dataclass
class _Running:
    """A step under way, holding the lease of its key."""

    node: Node
    key: str
    lease: contextlib.AbstractContextManager[None] | None
    process: StepProcess | None = None
    attempts: int = 0
    retry_at: float = 0.0

    def release(self) -> None:
        if self.lease is not None:
            self.lease.__exit__(None, None, None)
            self.lease = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
        self.release()


def _identity(value: Any, node: Node) -> Any:
    """The part of a key that an argument makes. Raises Invalid for a constant that JSON cannot hold."""
    if isinstance(value, Stored):
        return {"output": value.digest, "format": value.format}
    if isinstance(value, dict):
        return {str(key): _identity(item, node) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_identity(item, node) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value)
    raise Invalid(
        f"Step {node.name!r} is given a {type(value).__name__}, which cannot be part of a cache key.",
        remedy="Pass text, numbers, lists or another step's output.",
    )


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _commit(project: Path) -> str | None:
    """The git commit of the project, marked when the tree differs from it; None outside git."""
    command = ["git", "-C", str(project), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
