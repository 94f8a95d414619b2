"""Running a graph: its plan, its steps, the versions that it registers, and the record of it all."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.build.pipelines import logs
from modelyard.build.pipelines.cache import Cache, Result
from modelyard.build.pipelines.environment import Environment
from modelyard.build.pipelines.execution import Call, Executor
from modelyard.build.pipelines.fingerprint import Fingerprints
from modelyard.build.pipelines.graph import Step
from modelyard.build.pipelines.keys import Key, Keys, Last
from modelyard.build.pipelines.logs import StepLogs
from modelyard.build.pipelines.nodes import STEP, Graph, Node, Output
from modelyard.build.pipelines.scheduler import Job, Scheduler, call_of, module_of
from modelyard.domain.errors import Invalid, ModelyardError

if TYPE_CHECKING:
    from modelyard.build.pipelines.hub import Hub
    from modelyard.build.pipelines.step_environments import StepEnvironments

Progress = Callable[[str, str, float], None]
"""Called with (step, state, seconds): state is building, started, cached, finished, skipped, failed or
retried."""


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
    sample: the share of the rows that first steps keep. tell: called with (step, line) as steps that run in other
    processes print it; what steps print in this one goes to its own output.
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
        sample: float | None = None,
        tell: Callable[[str, str], None] | None = None,
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
        self._cause, self._only_cached, self._sample = cause, only_cached, sample
        self._held_back: list[tuple[str, str, float]] = []
        self._tell_line = tell
        self._logs: StepLogs | None = None
        self._step_environments: StepEnvironments | None = None
        self._workers = workers or max(1, os.cpu_count() or 1)
        self._environment = Environment(self._cache_root / "environment.json")
        fingerprints = Fingerprints(project, self._environment.version)
        self._keys = Keys(fingerprints, self._cache, lambda name: self._environments.digest(name), sample)
        self._last = Last(self._cache_root / "last", graph.pipeline)
        self._made: dict[str, tuple[Key, str, str]] = {}
        self._result = PipelineResult()
        made = executor() if executor is not None and not only_cached else None
        self._scheduler = Scheduler(
            graph,
            self._cache,
            self._keys,
            made,
            self._local,
            self._call,
            self._listen,
            fresh,
            only_cached,
            sample,
            self._capture,
        )

    def run(self) -> PipelineResult:
        """The result. Raises the failed step's error; what finished before stays cached."""
        started = time.perf_counter()
        if self._hub is not None and not self._only_cached:
            self._start_record(self._hub)
        try:
            self._scheduler.run()
            for told in self._held_back:
                self._progress(*told)
            if self._hub is not None and self._only_cached:
                self._record_cached(self._hub)
            for node in self._scheduler.registrations:
                self._register(node)
        except ModelyardError as error:
            self._finish(str(error))
            raise
        except KeyboardInterrupt:
            self._finish("stopped by hand")
            raise
        finally:
            if self._logs is not None:
                self._logs.close()
            self._cache.flush()
            if any(state != "cached" for _, state, _ in self._made.values()):
                self._last.write(self._made, self._keys.codes)
        self._finish(None)
        self._result.seconds = time.perf_counter() - started
        return self._result

    def _start_record(self, hub: "Hub") -> None:
        params = {name: _shown(value) for name, value in self._graph.params.items()}
        run_id = hub.start_pipeline_run(self._graph.pipeline, params, self._code(), self._cause)
        self._result.pipeline_run_id = run_id
        self._logs = StepLogs(self._cache_root.parent / logs.FOLDER / run_id, self._tell_line)

    def _record_cached(self, hub: "Hub") -> None:
        """Record a run that found everything in the cache, now that it is known to be one."""
        self._start_record(hub)
        for name, (key, state, reason) in self._made.items():
            result = self._scheduler.held[name]
            self._tell(name, state, key.text, result.seconds, None, self._details(key, reason, result, None))

    def _code(self) -> dict[str, Any]:
        """What ran, and with what: file, commit, Python, the digest of the environment and its packages."""
        environment = self._environment
        return {
            "module": self._module,
            "commit": _commit(self._project),
            "python": sys.version.split()[0],
            "environment": environment.digest,
            "packages": environment.packages,
        }

    def _local(self) -> Executor:
        from modelyard.build.pipelines.workers import LocalWorkers  # late: a run of brief steps needs none

        modules: dict[str, None] = {}
        for node in self._graph.nodes:
            if isinstance(node.step, Step):
                name, file = module_of(node.step.function)
                modules[f"{name}={file or ''}"] = None
        return LocalWorkers(self._project, list(modules), self._workers)

    @property
    def _environments(self) -> "StepEnvironments":
        if self._step_environments is None:
            from modelyard.build.pipelines.step_environments import StepEnvironments  # late: few pipelines have one

            self._step_environments = StepEnvironments(self._project, self._cache_root.parent)
        return self._step_environments

    def _call(self, job: Job, arguments: dict[str, Any]) -> Call:
        log = self._logs.elsewhere(job.node.name) if self._logs is not None else None
        python = self._python(job.step.environment) if job.step.environment else None
        call = call_of(job, arguments, str(self._cache_root), str(self._project), log, python)
        return call if job.node.parents else call._replace(sample=self._sample)

    def _python(self, name: str) -> str:
        if not self._environments.is_built(name):
            self._progress(f"environment {name}", "building", 0.0)
        return self._environments.python(name)

    def _capture(self, step: str) -> AbstractContextManager[None]:
        return self._logs.capture(step) if self._logs is not None else nullcontext()

    def _listen(self, job: Job, state: str, result: Result | None, error: str | None) -> None:
        name = job.node.name
        if state in ("started", "retried"):
            self._progress(name, state, 0.0)
            if self._result.pipeline_run_id is not None:
                under_way = "running" if state == "started" else state
                self._tell(name, under_way, job.key.text if job.key else "", 0.0, error, {})
            return
        if result is not None:
            self._result.metrics |= result.metrics
        details: dict[str, Any] = {}
        if job.key is not None:
            reason = "nothing changed" if state == "cached" else self._last.reason(name, job.key, self._keys.codes)
            self._made[name] = (job.key, state, reason)
            self._result.reasons[name] = reason
            details = self._details(job.key, reason, result, self._logs.kept(name) if self._logs else None)
        elif job.node.kind != STEP and state != "skipped":
            self._result.states[name] = state
            return
        seconds = result.seconds if result else 0.0
        self._note(name, state, job.key.text if job.key else "", seconds, error, details)

    def _details(self, key: Key, reason: str, result: Result | None, log: str | None) -> dict[str, Any]:
        arguments = {name: value for name, value in key.inputs.items() if isinstance(value, str)}
        details: dict[str, Any] = {"reason": reason, "arguments": arguments, "log": log}
        details["inputs"] = {n: v["output"] for n, v in key.inputs.items() if isinstance(v, dict) and "output" in v}
        if result is not None:
            details |= {"outputs": [output.digest for output in result.outputs], "metrics": result.metrics}
            details |= {
                "datasets": list(result.datasets),
                "params": result.params,
                "cpu_seconds": result.cpu_seconds,
                "peak_mb": result.peak_mb,
            }
        return details

    def _note(
        self, step: str, state: str, key: str, seconds: float, error: str | None, details: dict[str, Any]
    ) -> None:
        self._result.states[step] = state
        if self._only_cached:
            self._held_back.append((step, state, seconds))
        else:
            self._progress(step, state, seconds)
        if self._result.pipeline_run_id is not None:
            self._tell(step, state, key, seconds, error, details)

    def _tell(
        self, step: str, state: str, key: str, seconds: float, error: str | None, details: dict[str, Any]
    ) -> None:
        assert self._hub is not None and self._result.pipeline_run_id is not None, "a recorded run has both"
        self._hub.note_step(self._result.pipeline_run_id, step, state, key, seconds, error, details)

    def _register(self, node: Node) -> None:
        from modelyard.build.pipelines import registration  # late: only pipelines that register need it

        if self._hub is None or self._result.pipeline_run_id is None:
            raise Invalid("Registering a version needs a yard.", remedy="Run it by: modelyard run")
        self._listen(Job(node, None), "started", None, None)
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
            old=values["old"],
            answers=values["answers"],
            pipeline=self._graph.pipeline,
            pipeline_run_id=self._result.pipeline_run_id,
            params=params,
            metrics=dict(self._result.metrics),
            code={key: value for key, value in self._code().items() if key != "packages"},
            cause=self._cause,
            datasets=[each for result in self._scheduler.held.values() for each in result.datasets],
            onnx_within=values["onnx_within"],
        )
        self._result.versions.append(registration.register(request, self._hub))
        self._note(node.name, "finished", "", time.perf_counter() - started, None, {})

    def _finish(self, error: str | None) -> None:
        if self._hub is not None and self._result.pipeline_run_id is not None:
            self._hub.finish_pipeline_run(self._result.pipeline_run_id, error)


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _commit(project: Path) -> str | None:
    """The git commit of the project, marked when the tree differs from it; None outside git."""
    if not any((folder / ".git").exists() for folder in (project, *project.parents)):
        return None
    import subprocess  # late: only a project under git needs it

    command = ["git", "-C", str(project), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
