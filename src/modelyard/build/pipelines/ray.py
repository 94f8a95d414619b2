"""The executor on a Ray cluster: every step is a task, and what steps pass on travels through the object store.

The cluster may share the cache's folder (one machine, a network drive) or not: a task that sees the runner's mark in
it stores its outputs there, any other sends them back, and the runner stores them. The project's files go to the
nodes as the job's working directory; modelyard and the project's libraries must be installed there.
"""

import copy
import os
import resource
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.build.pipelines.cache import CONTAINERS, Cache, Result
from modelyard.build.pipelines.execution import Call, Done, fill, function_of, run_function
from modelyard.build.pipelines.logs import StepLogs
from modelyard.build.pipelines.nodes import Stored, walk
from modelyard.build.pipelines.values import IMMUTABLE
from modelyard.domain.errors import Invalid, MissingExtra, ModelyardError, StepFailed, Unavailable
from modelyard.kit import ray_cluster
from modelyard.kit.ray_cluster import NODE_DEATHS, ClusterAway, Mark

MOST_TASKS = 2000
"""Calls that are handed to Ray at once; further ones wait in the runner."""
SCALE_UP_S = 120.0
"""How long a step waits for a node that is large enough, where the cluster has none: it may be on its way."""
LOOK_S = 5.0
MOST_LOG = 1 << 20
"""Characters of a step's log that a node without the runner's disk sends back."""
MARK = "cluster.mark"
LEFT_OUT = [".modelyard", ".git", ".venv", "venv", "__pycache__", ".pytest_cache", "node_modules"]


class Answer(NamedTuple):
    """What a task returns beside its values: the result, or why it failed; what the runner must store: files, log."""

    result: Result | None
    message: str = ""
    remedy: str = ""
    files: tuple[tuple[Stored, bytes], ...] = ()
    log: str | None = None


def address_of(engine: str) -> str | None:
    """The Ray address of `ray` (None: this machine, started for the run) or `ray://host:port`. Raises Invalid."""
    try:
        return ray_cluster.address_of(engine)
    except ValueError:
        raise Invalid(f"There is no engine {engine!r}.", remedy="Engines: local, ray, ray://HOST:PORT.") from None


class RayTasks:
    """Implements `Executor` on the cluster at `address`; None starts one on this machine for the run."""

    remote = True

    def __init__(self, project: Path, cache: Path, address: str | None, scale_up_s: float = SCALE_UP_S) -> None:
        self._ray = _connected(project, address)
        self._cache = Cache(cache)
        self._mark = Mark(cache / MARK)
        self._task: Any = self._ray.remote(_run)
        self._running: dict[Any, tuple[Call, list[Any], float | None]] = {}
        self._values: dict[str, Any] = {}
        """By digest of an output the reference to its value in the object store."""
        self._scale_up_s, self._looked = scale_up_s, 0.0
        self._homeless: dict[Any, float] = {}
        """Since when no node was large enough for a call."""

    @property
    def free(self) -> int:
        return MOST_TASKS - len(self._running)

    def start(self, call: Call) -> None:
        if call.python is not None:
            raise Invalid(
                f"Step {call.node!r} names an environment of its own, which runs in local processes only.",
                remedy="Run it with --engine local, or give the cluster's nodes its libraries.",
            )
        needed = {leaf.digest: leaf for leaf in walk(call.arguments) if isinstance(leaf, Stored)}
        wanted = {each.digest: each for leaf in needed.values() for each in _files_of(leaf, self._values)}
        references = [self._reference(each) for each in wanted.values()]
        _, kinds = function_of(call)
        options: dict[str, Any] = {"num_cpus": call.cpu, "max_retries": NODE_DEATHS, "name": call.node}
        options["num_returns"] = 1 + max(1, len(kinds))
        if call.gpu:
            options["num_gpus"] = call.gpu
        if call.memory:
            options["memory"] = call.memory
        asked = call._replace(file=_relative(call))
        answer, *values = self._task.options(**options).remote(asked, self._mark, list(wanted), *references)
        deadline = None if call.timeout_s is None else time.monotonic() + call.timeout_s
        self._running[answer] = (call, values, deadline)

    def _reference(self, stored: Stored) -> Any:
        """The object that holds a stored value; put there when the runner has it from its cache alone."""
        if stored.digest not in self._values:
            self._values[stored.digest] = self._ray.put(self._cache.load(stored))
        return self._values[stored.digest]

    def poll(self, wait_s: float) -> list[Done]:
        """The calls that ended, waiting up to `wait_s` for the first."""
        if not self._running:
            return []
        now = time.monotonic()
        deadlines = [max(0.0, deadline - now) for _, _, deadline in self._running.values() if deadline is not None]
        pending = list(self._running)
        ready, _ = self._ray.wait(pending, num_returns=1, timeout=min([wait_s, *deadlines]), fetch_local=True)
        if ready and len(pending) > 1:
            ready, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0, fetch_local=True)
        done = [*(self._ended(answer) for answer in ready), *self._expired(set(ready))]
        return done or self._unplaced()

    def _unplaced(self) -> list[Done]:
        """The calls given up: those that no node of the cluster was large enough for, for a while."""
        now = time.monotonic()
        if now - self._looked < min(LOOK_S, self._scale_up_s):
            return []
        self._looked = now
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        too_large = {answer: call for answer, (call, _, _) in self._running.items() if not _fits(call, nodes)}
        self._homeless = {answer: self._homeless.get(answer, now) for answer in too_large}
        late = [answer for answer, since in self._homeless.items() if now - since >= self._scale_up_s]
        return [self._given_up(answer, nodes) for answer in late]

    def _given_up(self, answer: Any, nodes: list[dict[str, float]]) -> Done:
        call, _, _ = self._running.pop(answer)
        del self._homeless[answer]
        self._ray.cancel(answer)
        asked = ", ".join(f"{amount:g} {name}" for name, amount in _needs(call).items())
        largest = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)
        words = f"Step {call.node!r} asks for {asked}, and no node has that much at once (nodes: {largest})."
        return Done(
            call.id, None, StepFailed(words, remedy="Ask for less in its resources, or add a node that has it.")
        )

    def _ended(self, answer: Any) -> Done:
        call, values, _ = self._running.pop(answer)
        try:
            held: Answer = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            return Done(call.id, None, _lost(call, error))
        if held.log and call.log:
            Path(call.log).write_text(held.log)
        if held.result is None:
            return Done(call.id, None, StepFailed(held.message, remedy=held.remedy))
        for stored, data in held.files:
            self._store(stored, data)
        for stored, value in zip(held.result.outputs, values, strict=True):
            if stored.text is None or stored.format in CONTAINERS:
                self._values.setdefault(stored.digest, value)
        return Done(call.id, held.result)

    def _store(self, stored: Stored, data: bytes) -> None:
        target = self._cache.path(stored)
        temporary = target.with_name(f".{target.name}-{os.urandom(8).hex()}")
        try:
            temporary.write_bytes(data)
            temporary.replace(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise Unavailable(f"The step cache cannot be written: {error.strerror}.", remedy="Free space.") from error

    def _expired(self, ended: set[Any]) -> list[Done]:
        late = [
            answer
            for answer, (_, _, deadline) in self._running.items()
            if deadline is not None and time.monotonic() > deadline and answer not in ended
        ]
        done: list[Done] = []
        for answer in late:
            call, _, _ = self._running.pop(answer)
            self._ray.cancel(answer, force=True)
            words = f"Step {call.node!r} took longer than its timeout of {call.timeout_s:g} s and was stopped."
            remedy = "Raise the timeout in its @step, or make it faster."
            done.append(Done(call.id, None, StepFailed(words, remedy=remedy)))
        return done

    def close(self) -> None:
        """Stop every call that runs, and leave the cluster; one that was started for the run ends."""
        for answer in self._running:
            self._ray.cancel(answer, force=True)
        self._running.clear()
        self._values.clear()
        self._ray.shutdown()


def _needs(call: Call) -> dict[str, float]:
    """What a node must have to run a call, by Ray's names."""
    return (
        {"CPU": call.cpu} | ({"GPU": call.gpu} if call.gpu else {}) | ({"memory": call.memory} if call.memory else {})
    )


def _fits(call: Call, nodes: list[dict[str, float]]) -> bool:
    return any(all(node.get(name, 0) >= amount for name, amount in _needs(call).items()) for node in nodes)


def _connected(project: Path, address: str | None) -> Any:
    try:
        return ray_cluster.join(address, {"working_dir": str(project), "excludes": LEFT_OUT})
    except ModuleNotFoundError as error:
        raise MissingExtra("ray", "ray", "Running a pipeline on Ray") from error
    except ClusterAway as error:
        remedy = "See whether the cluster runs: ray status. Its own machines use HOST:6379, others ray://HOST:10001."
        raise Unavailable(str(error), remedy=remedy) from error


def _relative(call: Call) -> str | None:
    """The module's file as the nodes have it: below the working directory."""
    if call.file is None:
        return None
    path, project = Path(call.file), Path(call.project)
    return str(path.relative_to(project)) if path.is_relative_to(project) else path.name


def _files_of(stored: Stored, held: dict[str, Any]) -> list[Stored]:
    """What a task needs from the object store to make a value: the value itself where it is there, else its parts."""
    if stored.digest in held:
        return [stored]
    if stored.format in CONTAINERS:
        return [each for _, part in stored.parts for each in _files_of(part, held)]
    return [] if stored.text is not None else [stored]


class _TaskCache(Cache):
    """The cache as a task sees it: what came through the object store is not read from files."""

    def __init__(self, root: Path, given: dict[str, Any]) -> None:
        super().__init__(root)
        self._given = given

    def load(self, stored: Stored) -> Any:
        return _own(self._given[stored.digest], stored) if stored.digest in self._given else super().load(stored)


def _run(call: Call, mark: Mark, digests: list[str], *values: Any) -> Any:
    """The task: (answer, output values...)."""
    here = call._replace(project=os.getcwd())
    shared = mark.seen()
    count = 1
    with nullcontext("") if shared and call.log else tempfile.TemporaryDirectory(prefix="modelyard-") as own:
        printed = StepLogs(Path(call.log).parent if call.log and shared else Path(own))
        cache = _TaskCache(Path(call.cache) if shared else Path(own), dict(zip(digests, values, strict=True)))
        try:
            step, kinds = function_of(here)
            count = max(1, len(kinds))
            arguments = {name: fill(value, cache.load) for name, value in call.arguments.items()}
            with printed.capture(call.node), _memory_limit(call.memory):
                result, made = run_function(call.node, step, arguments, len(kinds), cache, call.sample)
            files = () if shared else tuple(_files(cache, result.outputs))
        except ModelyardError as error:
            return (Answer(None, error.message, error.remedy, log=_sent(printed, call, shared)), *[None] * count)
        return (Answer(result, files=files, log=_sent(printed, call, shared)), *made)


def _sent(printed: StepLogs, call: Call, shared: bool) -> str | None:
    """What the step printed, for a runner that does not share this node's disk."""
    kept = printed.kept(call.node)
    return None if shared or kept is None else Path(kept).read_text()[-MOST_LOG:]


def _own(value: Any, stored: Stored) -> Any:
    """A value that its reader may change: what the object store holds is read-only and shared by a node's readers.

    A frame is not copied before it is written to.
    """
    if stored.format in IMMUTABLE:
        return value
    if stored.format == "arrow":
        import pandas as pd  # the value is one of its frames: it is loaded already

        return value.copy(deep=int(pd.__version__.partition(".")[0]) < 3)
    return copy.deepcopy(value)


@contextmanager
def _memory_limit(limit: int | None) -> Generator[None]:
    """Let the process use `limit` bytes more than it does now; a Ray worker goes on to other tasks afterwards."""
    if limit is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _files(cache: Cache, outputs: tuple[Stored, ...]) -> Iterator[tuple[Stored, bytes]]:
    """Every file of the outputs, for a runner that does not share this node's disk."""
    for stored in outputs:
        if stored.format in CONTAINERS:
            yield from _files(cache, tuple(part for _, part in stored.parts))
        elif stored.text is None:
            yield stored, cache.path(stored).read_bytes()


def _lost(call: Call, error: Exception) -> StepFailed:
    """A call whose task did not end by itself, though Ray tried it again."""
    words = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return StepFailed(
        f"Step {call.node!r} was lost on the Ray cluster: {words}",
        remedy="Its worker or node died again and again, perhaps out of memory. Run again to go on from here.",
    )
