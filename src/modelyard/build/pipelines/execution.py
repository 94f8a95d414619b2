"""Running one step: in this process, or in one of its own that can be stopped."""

import multiprocessing
import os
import resource
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from modelyard.build.pipelines import recorder
from modelyard.build.pipelines.cache import Cache, Result, Stored
from modelyard.build.pipelines.graph import Node, Output
from modelyard.domain.errors import Invalid, ModelyardError, StepFailed

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def memory_bytes(text: str) -> int:
    """Bytes of a size such as `4GiB`. Raises Invalid."""
    for unit, size in UNITS.items():
        if text.endswith(unit) and text.removesuffix(unit).replace(".", "", 1).isdigit():
            return int(float(text.removesuffix(unit)) * size)
    raise Invalid(f"{text!r} is not a size.", remedy=f"Write a number and one of {', '.join(UNITS)}.")


def run_here(node: Node, arguments: dict[str, Any], cache: Cache) -> tuple[Result, list[Any]]:
    """The step's result, stored, and its output values. Raises StepFailed when the step raises."""
    assert node.step is not None, "registration nodes are not run as steps"
    noted = recorder.Recorder()
    token = recorder.current.set(noted)
    started = time.perf_counter()
    try:
        returned = node.step.function(**arguments)
    except Exception as error:
        raise explain(node.name, error) from error
    finally:
        recorder.current.reset(token)
    several = len(node.step.output_types()) > 1
    values = list(returned) if several else [returned]
    if several and len(values) != node.outputs:
        raise StepFailed(f"Step {node.name!r} declares {node.outputs} outputs and returned {len(values)}.")
    try:
        outputs = tuple(cache.save(value) for value in values)
    except Invalid as error:
        raise StepFailed(f"Step {node.name!r}: {error.message}", remedy=error.remedy) from error
    return Result(outputs, noted.metrics, noted.params, time.perf_counter() - started), values


def explain(name: str, error: BaseException) -> ModelyardError:
    """A step's exception as one error that names the step and the user's own line."""
    if isinstance(error, ModelyardError):
        return error
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return StepFailed(
        f"Step {name!r} raised {type(error).__name__}: {str(error) or 'no message'}{where}.",
        remedy="Mend it and run again; finished steps are not run twice. For the trace: modelyard --debug run ...",
    )


def _is_library(file: str) -> bool:
    return (
        "site-packages" in file or file.startswith(sys.base_prefix) or "modelyard/build/pipelines/execution" in file
    )


class StepProcess:
    """A step in a process of its own; `poll` tells when it ended."""

    def __init__(self, node: Node, stored: dict[str, Any], cache_root: Path, project: Path, module: str) -> None:
        assert node.step is not None, "registration nodes are not run as steps"
        context = multiprocessing.get_context("forkserver")
        _prepare(context, project, module)
        self._answer, theirs = context.Pipe(duplex=False)
        limit = node.step.resources.memory
        work = (
            module,
            node.step.name,
            node.name,
            stored,
            str(cache_root),
            str(project),
            memory_bytes(limit) if limit else None,
        )
        self._process = context.Process(target=_child, args=(theirs, *work), daemon=True)
        self._process.start()
        theirs.close()
        self._name = node.name
        self._limit = limit
        timeout = node.step.timeout_s
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timeout_s = timeout

    def poll(self) -> Result | None:
        """The result when the step is done, None while it runs. Raises StepFailed."""
        if self._answer.poll():
            return self._receive()
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.stop()
            raise StepFailed(
                f"Step {self._name!r} took longer than its timeout of {self._timeout_s:g} s and was stopped.",
                remedy="Raise the timeout in its @step, or make it faster.",
            )
        if not self._process.is_alive() and not self._answer.poll():
            limit = f" (memory limit {self._limit})" if self._limit else ""
            raise StepFailed(
                f"Step {self._name!r} died with exit code {self._process.exitcode}{limit}.",
                remedy="It may have run out of memory, or was killed. Run again to go on from here.",
            )
        return None

    def stop(self) -> None:
        self._process.kill()
        self._process.join()

    def _receive(self) -> Result:
        try:
            kind, value = self._answer.recv()
        except EOFError:
            self._process.join()
            raise StepFailed(
                f"Step {self._name!r} died with exit code {self._process.exitcode}.",
                remedy="It may have run out of memory, or was killed. Run again to go on from here.",
            ) from None
        self._process.join()
        if kind == "failed":
            raise StepFailed(value[0], remedy=value[1])
        return value


def _prepare(context: Any, project: Path, module: str) -> None:
    """Let the fork server import the project's module once, so that each step starts by a fork."""
    context.set_forkserver_preload([Path(module).stem])
    held = os.environ.get("PYTHONPATH", "")
    if str(project) not in held.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(project), held]))


def _child(
    answer: Connection,
    module: str,
    step: str,
    name: str,
    stored: dict[str, Any],
    root: str,
    project: str,
    limit: int | None,
) -> None:
    from modelyard.build.pipelines.project import load_module

    if limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        loaded = getattr(load_module(Path(project), module), step)
        cache = Cache(Path(root))
        node = Node(name, loaded, {}, outputs=len(loaded.output_types()))
        result, _ = run_here(node, {key: fill(value, cache) for key, value in stored.items()}, cache)
        answer.send(("done", result))
    except MemoryError:
        answer.send(("failed", (f"Step {name!r} ran out of memory (limit {limit} bytes).", "Raise its memory.")))
    except ModelyardError as error:
        answer.send(("failed", (error.message, error.remedy)))


def fill(value: Any, cache: Cache) -> Any:
    """A structure with every stored output replaced by its value."""
    if isinstance(value, Stored):
        return cache.load(value)
    if isinstance(value, dict):
        return {key: fill(item, cache) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(fill(item, cache) for item in value)
    return value


def place(value: Any, held: dict[str, Result]) -> Any:
    """A structure with every awaited output replaced by where it is stored."""
    if isinstance(value, Output):
        return held[value.node.name].outputs[value.index or 0]
    if isinstance(value, dict):
        return {key: place(item, held) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(place(item, held) for item in value)
    return value
