"""Running one step, and the seam behind which executors run many.

A `Call` says all that is needed to run a step anywhere: where its function is found, its arguments (plain values and
`Stored` references into the cache), its limits. `run_call` is what an executor's worker does with it.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from modelyard.build.pipelines import recorder
from modelyard.build.pipelines.cache import Cache, Result
from modelyard.build.pipelines.failures import explain
from modelyard.build.pipelines.nodes import Output, Stored, rebuild
from modelyard.domain.errors import Invalid, ModelyardError, StepFailed, Unavailable

WORTH_LOOKING_S = 0.02
"""A step that took less is not asked how much memory it used: the answer takes a tenth of a millisecond."""
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def memory_bytes(text: str) -> int:
    """Bytes of a size such as `4GiB`. Raises Invalid."""
    for unit, size in UNITS.items():
        if text.endswith(unit) and text.removesuffix(unit).replace(".", "", 1).isdigit():
            return int(float(text.removesuffix(unit)) * size)
    raise Invalid(f"{text!r} is not a size.", remedy=f"Write a number and one of {', '.join(UNITS)}.")


class Call(NamedTuple):
    """One attempt at a step. It can be pickled."""

    id: str
    node: str
    module: str
    """The module's name, such as `pipeline` or `modelyard.build.pipelines.library.splitting`."""
    file: str | None
    """The module's file, for modules of the project; None for installed ones."""
    function: str
    """The qualified name in the module; it leads to a step or to a plain function."""
    arguments: dict[str, Any]
    """By parameter name; anything nested may be a `Stored`, to be read from the cache. A variadic one is a list."""
    cache: str
    project: str
    timeout_s: float | None = None
    memory: int | None = None
    cpu: float = 1
    gpu: float = 0
    log: str | None = None
    """A file that takes what the step prints."""
    python: str | None = None
    """The interpreter of the step's declared environment; None for the runner's own."""
    sample: float | None = None
    """The share of the rows that a first step keeps of what it returns."""
    written: tuple[str, ...] = ()
    """Digests of large outputs that this run wrote a moment ago: they need not be read through to be trusted."""


class Done(NamedTuple):
    """How a call ended: with a result whose outputs are in the cache, or with an error that names the step."""

    id: str
    result: Result | None
    error: ModelyardError | None = None


class Executor(Protocol):
    """Runs calls somewhere else than in the runner's own process.

    An executor must: run each started call to exactly one `Done` (also when its worker dies: then with a StepFailed
    that names the node); enforce `timeout_s` and `memory` and stop what exceeds them together with every process that
    it started; leave the outputs in the cache under `call.cache` before it reports them; stop everything on `close`,
    and see to it that nothing outlives a runner that is killed. It does not retry (the runner does), need not keep an
    order, and is called from one thread at a time.
    """

    remote: bool
    """True: every step goes to the executor. False: only those that need isolation or run beside another one; brief
    ones run in the runner's process."""

    @property
    def free(self) -> int:
        """How many more calls can start now."""
        ...

    def start(self, call: Call) -> None: ...

    def poll(self, wait_s: float) -> list[Done]:
        """The calls that ended, waiting up to `wait_s` for the first."""
        ...

    def close(self) -> None:
        """Stop every call that runs, and the workers."""
        ...


def run_call(call: Call, cache: Cache, load: Callable[[Stored], Any] | None = None) -> Result:
    """The step's result, its outputs stored. Raises StepFailed, and MemoryError as StepFailed that names the step.

    load: reads a stored argument; by default from the cache. An executor that holds values already passes its own.
    """
    function, kinds = function_of(call)
    read = load or cache.load
    arguments = {name: fill(value, read) for name, value in call.arguments.items()}
    return run_function(call.node, function, arguments, len(kinds), cache, call.sample)[0]


def run_function(
    name: str, step: Any, arguments: dict[str, Any], outputs: int, cache: Cache, sample: float | None = None
) -> tuple[Result, list[Any]]:
    """(result, output values) of a step called here; `outputs` is 0 for a single one. Raises StepFailed."""
    noted = recorder.Recorder()
    token = recorder.current.set(noted)
    args, kwargs = step.parameters.call(arguments)
    forget_peak()
    started, cpu = time.perf_counter(), time.process_time()
    try:
        returned = step.function(*args, **kwargs)
        values = _outputs(name, returned, outputs)
        if sample is not None:
            from modelyard.build.pipelines.sampling import sampled  # late: few runs are samples

            values = [sampled(value, sample) for value in values]
        stored = tuple(cache.save(value) for value in values)
    except (Invalid, Unavailable) as error:
        raise StepFailed(f"Step {name!r}: {error.message}", remedy=error.remedy) from error
    except StepFailed:
        raise
    except Exception as error:
        raise explain(f"Step {name!r}", error) from error
    finally:
        recorder.current.reset(token)
    taken = time.perf_counter() - started
    used = time.process_time() - cpu
    peak = peak_mb() if taken > WORTH_LOOKING_S else 0.0
    return Result(stored, noted.metrics, noted.params, taken, used, peak, tuple(noted.datasets)), values


def _outputs(name: str, returned: Any, declared: int) -> list[Any]:
    if not declared:
        return [returned]
    if not isinstance(returned, tuple | list) or len(returned) != declared:  # pyright: ignore[reportUnknownArgumentType]
        shape = f"{len(returned)}" if isinstance(returned, tuple | list) else type(returned).__name__
        raise StepFailed(
            f"Step {name!r} declares {declared} outputs and returned {shape}.",
            remedy="Return as many as its annotation says, or change the annotation.",
        )
    return list(returned)


def function_of(call: Call) -> tuple[Any, list[Any]]:
    """(step, output types) that a call names. Raises StepFailed when its module does not load or lacks it."""
    from importlib import import_module

    from modelyard.build.pipelines.graph import Step
    from modelyard.build.pipelines.project import load_module

    module = load_module(Path(call.project), call.file, call.module) if call.file else import_module(call.module)
    found: Any = module
    for part in call.function.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise StepFailed(
            f"Step {call.node!r} cannot be found in {call.module} as {call.function!r}.",
            remedy="Define it at the top of a module: a step that runs in a process of its own is found by its name.",
        )
    step = found if isinstance(found, Step) else Step(found)
    return step, step.outputs


def fill(value: Any, load: Callable[[Stored], Any]) -> Any:
    """A structure with every stored output replaced by its value."""
    return rebuild(value, lambda leaf: load(leaf) if isinstance(leaf, Stored) else leaf)


def place(value: Any, held: dict[str, Result]) -> Any:
    """A structure with every awaited output replaced by where it is stored."""
    return rebuild(value, lambda leaf: stored_of(leaf, held) if isinstance(leaf, Output) else leaf)


def stored_of(output: Output, held: dict[str, Result]) -> Stored:
    """Where an output is stored. Raises StepFailed when its step returned something else than it declares."""
    outputs = held[output.node.name].outputs
    index = output.index or 0
    found = outputs[index] if output.node.outputs > 1 or index == 0 else None
    if output.node.outputs == 1 and output.index is not None and outputs[0].parts:
        found = outputs[0].parts[output.index][1]
    if found is not None and output.field is not None:
        parts = dict(found.parts)
        if output.field in parts:
            return parts[output.field]
        found = None
    if found is None:
        raise StepFailed(f"Step {output.node.name!r} has no output {output.field or index}.")
    return found


def forget_peak() -> None:
    """Let `peak_mb` count from now on. Linux only; elsewhere, or where it is not allowed, it does nothing."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "wb", buffering=0) as told:
        told.write(b"5")


def peak_mb() -> float:
    """The most memory that this process has had resident since `forget_peak`, MB; 0 where no system tells."""
    try:
        with open("/proc/self/status", "rb", buffering=0) as status:
            text = status.read(4096)
    except OSError:
        return 0.0
    _, _, rest = text.partition(b"VmHWM:")
    return int(rest.split()[0]) / 1000 if rest else 0.0
