"""Which node runs when, and where: brief steps in this process, what needs isolation or runs beside it in workers."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

from modelyard.build.pipelines.cache import Cache, Lease, Result, container, large_in
from modelyard.build.pipelines.execution import Call, Done, Executor, memory_bytes, place, run_function, stored_of
from modelyard.build.pipelines.graph import Step
from modelyard.build.pipelines.keys import Key, Keys
from modelyard.build.pipelines.nodes import CHOOSE, GATHER, MAP, REGISTER, STEP, Graph, Node, Output, Stored, building
from modelyard.build.pipelines.values import Values
from modelyard.domain.errors import Invalid, ModelyardError, StepFailed

BRIEF_S = 0.2
"""A step that takes less is not worth a process of its own."""
SEEN = 16
"""How many waiting jobs are looked at when workers are free."""
LEASE_S = 0.02
"""How often a runner looks whether another one that works on the same step is done."""
SKIPPED = "skipped"


class NotCached(BaseException):  # not an Exception: nothing between the scheduler and its caller handles it
    """A step would have to run, in a run that may only take results from the cache."""


Listener = Callable[["Job", str, Result | None, str | None], None]
"""Called with (job, state, result, error): state is started, cached, finished, skipped, retried or failed."""


class Job:
    """A node under way: its key, the attempts made, and the lease that it holds."""

    def __init__(self, node: Node, key: Key | None) -> None:
        self.node, self.key = node, key
        self.attempts = 0
        self.due = 0.0
        self.lease: Lease | None = None
        self.started = 0.0

    @property
    def step(self) -> Any:
        return self.node.step

    def release(self) -> None:
        if self.lease is not None:
            self.lease.release()
            self.lease = None


class Scheduler:
    """Runs the nodes of one graph. `held` has the result of each that ended; `registrations` wait for the runner."""

    def __init__(
        self,
        graph: Graph,
        cache: Cache,
        keys: Keys,
        executor: Executor | None,
        local: Callable[[], Executor],
        call: Callable[[Job, dict[str, Any]], Call],
        listener: Listener,
        fresh: frozenset[str],
        only_cached: bool = False,
        sample: float | None = None,
        capture: Callable[[str], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._capture = capture
        """Keeps what the step of a name prints in this process."""
        self._graph, self._cache, self._keys, self._call, self._listener = graph, cache, keys, call, listener
        self._fresh, self._only_cached, self._sample = fresh, only_cached, sample
        self._executor, self._make_executor = executor, local
        self._everywhere = executor is not None and executor.remote
        self.held: dict[str, Result] = {}
        self.states: dict[str, str] = {}
        self.registrations: list[Node] = []
        self.values = Values(cache, self.held)
        self._skipped: set[str] = set()
        self._awaits: dict[str, int] = {}
        self._children: dict[str, list[Node]] = {}
        self._ready: deque[Node] = deque()
        self._startable: deque[Job] = deque()
        self._elsewhere: deque[Job] = deque()
        """Jobs that must not run in this process."""
        self._written: set[str] = set()
        """Large outputs that this run wrote itself."""
        self._parked: list[Job] = []
        self._active: dict[str, list[Node]] = {}
        self._remote: dict[str, Job] = {}
        self._open = 0
        self._lock = threading.RLock()
        self._inline_since: float | None = None
        self._watcher: threading.Thread | None = None
        self._stopped = threading.Event()
        self._failure: ModelyardError | None = None
        self._runs_in_main = False
        for node in graph.nodes:
            self._add(node)

    def run(self) -> None:
        """Run every node. Raises the error of the first that failed; what finished before stays cached."""
        self._runs_in_main = threading.current_thread() is threading.main_thread()
        try:
            while self._open:
                with self._lock:
                    if self._failure is not None:
                        raise self._failure
                    job = self._take()
                if job is not None:
                    self._run_inline(job)
        except KeyboardInterrupt:
            if self._failure is None:
                raise
            raise self._failure from None
        finally:
            self._stopped.set()
            if self._executor is not None:
                self._executor.close()
            for job in [*self._remote.values(), *self._parked]:
                job.release()

    def _add(self, node: Node) -> None:
        self._open += 1
        self._children.setdefault(node.name, [])
        self._await(node)

    def _await(self, node: Node) -> None:
        """Let the node wait for those of its parents that have not ended."""
        waiting = [each for each in node.parents if each.name not in self.held and each.name not in self._skipped]
        for parent in waiting:
            self._children.setdefault(parent.name, []).append(node)
            self.values.expect(parent, len(self._children[parent.name]))
        self._awaits[node.name] = len(waiting)
        if not waiting:
            self._ready.append(node)

    def _take(self) -> Job | None:
        """The next job to run in this process; None when the only thing to do was to wait for others."""
        self._pump(0.0, spread=False)
        job = self._next()
        if job is None and self._open and not self._ready:
            assert self._remote or self._parked or self._elsewhere, "an open node waits for something"
            self._pump(self._pause(), spread=False)
        return job

    def _next(self) -> Job | None:
        while self._startable:
            job = self._startable.popleft()
            if self._acquire(job):
                return job
        return None

    def _pause(self) -> float:
        """Seconds until something may have changed."""
        due = [job.due - time.monotonic() for job in self._parked]
        return max(0.0, min([0.5, *due]))

    def _pump(self, wait_s: float, spread: bool) -> None:
        """Settle what is ready, start workers, take in what they finished. `spread`: brief ones go to workers too."""
        now = time.monotonic()
        for job in [job for job in self._parked if job.due <= now]:
            self._parked.remove(job)
            self._queue(job)
        self._settle()
        self._dispatch(spread)
        if self._remote:
            assert self._executor is not None, "what runs remotely has an executor"
            for done in self._executor.poll(wait_s):
                self._take_in(done)
            self._settle()
        elif wait_s:
            time.sleep(wait_s)

    def _dispatch(self, spread: bool) -> None:
        """Start in workers: what must, what is known to take long beside something else, or all that waits."""
        moved = [job for job in islice(self._startable, 0 if spread else 1, SEEN) if spread or self._is_slow(job)]
        for job in moved:
            if _can_move(job):
                self._startable.remove(job)
                self._elsewhere.append(job)
        while self._elsewhere:
            if self._executor is None:
                self._executor = self._make_executor()
            if self._executor.free <= 0:
                break
            job = self._elsewhere.popleft()
            if self._acquire(job):
                arguments = {name: place(value, self.held) for name, value in job.node.arguments.items()}
                call = self._call(job, arguments)._replace(written=tuple(self._written))
                self._remote[call.id] = job
                self._executor.start(call)
        while self._elsewhere and not self._everywhere and not _isolated(self._elsewhere[-1]):
            self._startable.appendleft(self._elsewhere.pop())

    def _is_slow(self, job: Job) -> bool:
        return (self._cache.last_seconds(job.node.name) or 0.0) > BRIEF_S

    def _acquire(self, job: Job) -> bool:
        """Whether the job may start: nobody else works on its key, and nobody finished it meanwhile."""
        assert job.key is not None, "steps have keys"
        if job.step.cache:
            job.lease = job.lease or self._cache.try_lease(job.key.text)
            if job.lease is None:
                job.due = time.monotonic() + LEASE_S
                self._parked.append(job)
                return False
            held = None if self._is_fresh(job.node) else self._cache.find(job.key.text)
            if held is not None:
                self._end(job, held, "cached")
                return False
        job.started = time.monotonic()
        self._listener(job, "started", None, None)
        return True

    def _settle(self) -> None:
        while self._ready:
            self._consider(self._ready.popleft())

    def _consider(self, node: Node) -> None:
        """Take a node whose parents have ended from the cache, resolve it, or let it wait for its start."""
        if node.kind != CHOOSE and self._is_skipped(node):
            self._skipped.add(node.name)
            self._listener(Job(node, None), SKIPPED, None, None)
            self._release_children(node)
        elif node.kind == STEP:
            self._consider_step(node)
        elif node.kind == MAP:
            self._expand(node)
        elif node.kind == REGISTER:
            self.registrations.append(node)
            self._open -= 1
        else:
            self._resolve(node)

    def _is_skipped(self, node: Node) -> bool:
        if any(parent.name in self._skipped for parent in node.parents):
            return True
        return any(bool(self.values.read(output, True)) is not wanted for output, wanted in node.guards)

    def _consider_step(self, node: Node) -> None:
        arguments = {name: place(value, self.held) for name, value in node.arguments.items()}
        job = Job(node, key := self._keys.of(node, arguments))
        if job.step.cache:
            if key.text in self._active:  # the same call twice: the second finds the first one's result
                self._active[key.text].append(node)
                return
            held = None if self._is_fresh(node) else self._cache.find(key.text)
            if held is not None:
                self._end(job, held, "cached")
                return
            self._active[key.text] = []
        if self._only_cached:
            raise NotCached
        self._queue(job)

    def _queue(self, job: Job) -> None:
        (self._elsewhere if self._everywhere or _isolated(job) else self._startable).append(job)

    def _is_fresh(self, node: Node) -> bool:
        return node.name in self._fresh or getattr(node.step, "name", "") in self._fresh

    def _resolve(self, node: Node) -> None:
        """End a node that only arranges what others produced."""
        value = node.arguments["value"] if node.kind == GATHER else self._chosen(node)
        stored = self._arranged(place(value, self.held))
        cached = node.kind == GATHER and all(self.states.get(each.name) == "cached" for each in node.parents)
        self._end(Job(node, None), Result((stored,), {}, {}, 0.0), "cached" if cached else "finished")

    def _chosen(self, node: Node) -> Any:
        condition = node.arguments["condition"]
        return node.arguments["then" if self.values.read(condition, True) else "otherwise"]

    def _arranged(self, value: Any) -> Stored:
        if isinstance(value, Stored):
            return value
        if isinstance(value, list | tuple):
            parts = tuple((str(index), self._arranged(item)) for index, item in enumerate(value))
            return container("list" if isinstance(value, list) else "tuple", parts)
        return self._cache.save(value)

    def _expand(self, node: Node) -> None:
        """Add a node for each item of a list that is known now; this one then gathers them."""
        columns = [self._items(node, source) for source in node.arguments["items"]]
        if len({len(column) for column in columns}) > 1:
            raise Invalid(f"Step {node.name!r} goes over lists of different lengths: {[len(c) for c in columns]}.")
        count = len(self._graph.nodes)
        token, naming = building.set(self._graph), self._graph.label
        target: Any = node.step
        handles: list[Any] = []
        try:
            for index, each in enumerate(zip(*columns, strict=True)):
                self._graph.label = _labels(node.name, index, isinstance(target, Step))
                handles.append(target(*each, **node.arguments["fixed"]))
        finally:
            building.reset(token)
            self._graph.label = naming
        for child in self._graph.nodes[count:]:
            self._add(child)
        node.kind, node.arguments = GATHER, {"value": handles}
        before, node.parents = node.parents, node.awaited()
        for parent in before:
            if parent not in node.parents:
                self.values.done(parent.name)
        self._await(node)

    def _items(self, node: Node, source: Any) -> list[Any]:
        if not isinstance(source, Output):
            return list(source)
        stored = stored_of(source, self.held)
        if stored.format in ("list", "tuple"):
            return [part for _, part in stored.parts]
        value = self._cache.load(stored)
        if not isinstance(value, list):
            raise StepFailed(
                f"Step {node.name!r} goes over the output of {source.node.name!r}, a {type(value).__name__}.",
                remedy="Return a list.",
            )
        return value

    def _run_inline(self, job: Job) -> None:
        node, step = job.node, job.step
        self._watch()
        with self._lock:
            arguments = self.values.arguments(node, job.attempts < step.retries)
            self._inline_since = time.monotonic()
        try:
            sample = None if node.parents else self._sample
            with self._capture(node.name):
                result, values = run_function(node.name, step, arguments, len(step.outputs), self._cache, sample)
        except StepFailed as error:
            with self._lock:
                self._inline_since = None
                self._failed(job, error)
            return
        finally:
            self._inline_since = None
        del arguments
        with self._lock:
            self.values.keep(node.name, values)
            self._finish(job, result)

    def _watch(self) -> None:
        """Start the thread that, while a step runs long in this process, keeps workers busy with the others."""
        if self._watcher is None and self._open > 1:
            self._watcher = threading.Thread(target=self._keep_busy, name="modelyard-scheduler", daemon=True)
            self._watcher.start()

    def _keep_busy(self) -> None:
        while not self._stopped.wait(BRIEF_S / 4):
            with self._lock:
                since = self._inline_since
                if since is None or time.monotonic() - since < BRIEF_S or self._failure is not None:
                    continue
                try:
                    self._pump(0.0, spread=True)
                except ModelyardError as error:
                    self._failure = error
                    if self._runs_in_main:
                        _interrupt_main()

    def _take_in(self, done: Done) -> None:
        job = self._remote.pop(done.id)
        if done.result is not None:
            self._finish(job, done.result)
        else:
            assert done.error is not None, "a call ends with a result or an error"
            self._failed(job, done.error)

    def _finish(self, job: Job, result: Result) -> None:
        assert job.key is not None, "steps have keys"
        if job.step.cache:
            self._cache.put(job.key.text, job.node.name, result)
        written = {digest for stored in result.outputs for digest in large_in(stored)}
        self._cache.trust(written)
        self._written |= written
        self._end(job, result, "finished")

    def _failed(self, job: Job, error: ModelyardError) -> None:
        """Let the job wait for its next attempt, pausing 1, 2, 4 ... s, or raise."""
        job.attempts += 1
        if job.attempts <= job.step.retries:
            self._listener(job, "retried", None, str(error))
            job.due = time.monotonic() + 2.0 ** (job.attempts - 1)
            self._parked.append(job)
            return
        job.release()
        self._listener(job, "failed", None, str(error))
        raise error

    def _end(self, job: Job, result: Result, state: str) -> None:
        node = job.node
        self.held[node.name], self.states[node.name] = result, state
        job.release()
        self._listener(job, state, result, None)
        if job.key is not None:
            self._ready.extend(self._active.pop(job.key.text, []))
        self._release_children(node)

    def _release_children(self, node: Node) -> None:
        self._open -= 1
        for parent in node.parents:
            self.values.done(parent.name)
        for child in self._children.pop(node.name, []):
            self._awaits[child.name] -= 1
            if not self._awaits[child.name]:
                self._ready.append(child)


def _isolated(job: Job) -> bool:
    step = job.step
    return step.timeout_s is not None or step.resources.memory is not None or step.environment is not None


def _can_move(job: Job) -> bool:
    """Whether a worker finds the step by its name."""
    return _isolated(job) or "<" not in job.step.function.__qualname__


def _labels(name: str, index: int, single: bool) -> Callable[[str], str]:
    return (lambda step: f"{name}[{index}]") if single else (lambda step: f"{name}[{index}].{step}")


def _interrupt_main() -> None:
    """Stop what the main thread does, as Ctrl-C would."""
    import signal  # late: only a failure beside a long step needs it

    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def call_of(
    job: Job, arguments: dict[str, Any], cache: str, project: str, log: str | None, python: str | None
) -> Call:
    """The call of a job for an executor."""
    step = job.step
    function = step.function
    module, file = module_of(function)
    return Call(
        id=f"{job.node.name.replace('/', '_')[:80]}.{job.attempts}.{os.urandom(4).hex()}",
        node=job.node.name,
        module=module,
        file=file,
        function=function.__qualname__,
        arguments=arguments,
        cache=cache,
        project=project,
        timeout_s=step.timeout_s,
        memory=memory_bytes(step.resources.memory) if step.resources.memory else None,
        cpu=step.resources.cpu,
        gpu=step.resources.gpu,
        log=log,
        python=python,
    )


def module_of(function: Any) -> tuple[str, str | None]:
    """(name, file) of the module that a function is found in; no file for an installed one."""
    from modelyard.build.pipelines.sources import is_installed

    file: str = function.__code__.co_filename
    name: str = function.__module__
    if name == "__main__":
        name = os.path.splitext(os.path.basename(file))[0]
    return (name, None) if is_installed(name, file) else (name, file)
