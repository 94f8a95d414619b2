"""Running a graph: its plan, its steps, the versions that it registers, and the record of it all."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.build.pipelines.cache import Cache, Result
from modelyard.build.pipelines.environment import Environment
from modelyard.build.pipelines.execution import Call, Executor
from modelyard.build.pipelines.fingerprint import Fingerprints
from modelyard.build.pipelines.graph import Step
from modelyard.build.pipelines.keys import Key, Keys, Last
from modelyard.build.pipelines.nodes import STEP, Graph, Node, Output
from modelyard.build.pipelines.scheduler import Job, Scheduler, call_of, module_of
from modelyard.domain.errors import Invalid, ModelyardError

if TYPE_CHECKING:
    from modelyard.build.pipelines.hub import Hub

Progress = Callable[[str, str, float], None]
"""Called with (step, state, seconds): state is started, cached, finished, skipped, failed or retried."""


class PipelineResult:
    """What a run did: each step's state, and the versions that it registered."""

    def __init__(self, pipeline_run_id: str | None = None) -> None:
        self.pipeline_run_id = pipeline_run_id
        self.states: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.versions: list[dict[str, Any]] = []
        self.metrics: dict[str, float] = {}
        self.seconds = 0.0


class Runner:
    """Runs one graph once.

    executor: makes the executor; by default local worker processes, when the first step needs one. workers: how many
    steps run at once. only_cached: raise NotCached as soon as a step would have to run.
    """

    def __init__(
        self,
        graph: Graph,
        project: Path,
        module: str,
        home: Path,
        hub: "Hub | None" = None,
        progress: Progress | None = None,
        fresh: frozenset[str] = frozenset(),
        cause: str | None = None,
        workers: int | None = None,
        executor: Callable[[], Executor] | None = None,
        only_cached: bool = False,
    ) -> None:
        names = {node.name for node in graph.nodes}
        unknown = sorted(fresh - names - {node.step.name for node in graph.nodes if node.step is not None})
        if unknown:
            known = ", ".join(node.name for node in graph.nodes)
            raise Invalid(f"There is no step {unknown[0]!r} to run afresh.", remedy=f"Steps: {known}.")
        self._graph, self._project, self._module, self._hub = graph, project, module, hub
        self._cache_root = home / "cache"
        self._cache = Cache(self._cache_root)
        self._progress = progress or (lambda step, state, seconds: None)
        self._cause = cause
        self._workers = workers or max(1, os.cpu_count() or 1)
        self._environment = Environment(self._cache_root / "environment.json")
        self._keys = Keys(Fingerprints(project, self._environment.version), self._cache, {})
        self._last = Last(self._cache_root / "last", graph.pipeline)
        self._made: dict[str, tuple[Key, str, str]] = {}
        self._result = PipelineResult()
        made = executor() if executor is not None and not only_cached else None
        self._scheduler = Scheduler(
            graph, self._cache, self._keys, made, self._local, self._call, self._listen, fresh, only_cached
        )

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
            self._scheduler.run()
            for node in self._scheduler.registrations:
                self._register(node)
            if self._hub is not None and not self._result.versions:
                self._track()
        except ModelyardError as error:
            self._finish(str(error))
            raise
        except KeyboardInterrupt:
            self._finish("stopped by hand")
            raise
        finally:
            self._cache.flush()
            if any(state != "cached" for _, state, _ in self._made.values()):
                self._last.write(self._made, self._keys.codes)
        self._finish(None)
        self._result.seconds = time.perf_counter() - started
        return self._result

    def _local(self) -> Executor:
        from modelyard.build.pipelines.workers import LocalWorkers  # late: a run of brief steps needs none

        modules: dict[str, None] = {}
        for node in self._graph.nodes:
            if isinstance(node.step, Step):
                name, file = module_of(node.step.function)
                modules[f"{name}={file or ''}"] = None
        return LocalWorkers(self._project, list(modules), self._workers)

    def _call(self, job: Job, arguments: dict[str, Any]) -> Call:
        return call_of(job, arguments, str(self._cache_root), str(self._project), None, None)

    def _listen(self, job: Job, state: str, result: Result | None, error: str | None) -> None:
        name = job.node.name
        if state in ("started", "retried"):
            self._progress(name, state, 0.0)
            return
        if result is not None:
            self._result.metrics |= result.metrics
        if job.key is not None:
            reason = "nothing changed" if state == "cached" else self._last.reason(name, job.key, self._keys.codes)
            self._made[name] = (job.key, state, reason)
        elif job.node.kind != STEP and state != "skipped":
            self._result.states[name] = state
            return
        self._note(name, state, job.key.text if job.key else "", result.seconds if result else 0.0, error)

    def _note(self, step: str, state: str, key: str, seconds: float, error: str | None) -> None:
        self._result.states[step] = state
        self._progress(step, state, seconds)
        if self._hub is not None and self._result.pipeline_run_id is not None:
            self._hub.note_step(self._result.pipeline_run_id, step, state, key, seconds, error)

    def _register(self, node: Node) -> None:
        from modelyard.build.pipelines import registration  # late: only pipelines that register need it

        if self._hub is None or self._result.pipeline_run_id is None:
            raise Invalid("Registering a version needs a yard.", remedy="Run it by: modelyard run")
        self._progress(node.name, "started", 0.0)
        started = time.perf_counter()
        read = self._scheduler.values.read
        values = {name: read(v) if isinstance(v, Output) else v for name, v in node.arguments.items()}
        params = {name: str(_shown(value)) for name, value in self._graph.params.items()}
        params |= {name: value for result in self._scheduler.held.values() for name, value in result.params.items()}
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


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _commit(project: Path) -> str | None:
    """The git commit of the project, marked when the tree differs from it; None outside git."""
    import subprocess  # late: a run that is not tracked asks for no commit

    command = ["git", "-C", str(project), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
