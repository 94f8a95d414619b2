"""Steps, pipelines, and the graph that calling steps inside a pipeline builds."""

import functools
import inspect
import typing
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, TypeVar, overload

from modelyard.domain.errors import Invalid
from modelyard.domain.project import seconds

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Resources:
    """What a step asks for: CPUs, and a memory limit such as `4GiB`."""

    cpu: int = 1
    memory: str | None = None


@dataclass(frozen=True)
class Output:
    """A value that a node will produce: its `index` among several, or its only one."""

    node: "Node"
    index: int | None = None


@dataclass
class Node:
    """One call of a step in a pipeline. `name` is unique in its graph."""

    name: str
    step: "Step[..., Any] | None"
    arguments: dict[str, Any]
    outputs: int = 1
    registration: str | None = None
    """The registered model's name, for the node that registers a version."""

    def parents(self) -> "list[Node]":
        return [value.node for value in walk(self.arguments) if isinstance(value, Output)]


@dataclass
class Graph:
    """A pipeline's nodes in the order of their calls, which is a topological order."""

    pipeline: str
    params: dict[str, Any]
    nodes: list[Node] = field(default_factory=list[Node])

    def add(self, name: str, step: "Step[..., Any] | None", arguments: dict[str, Any], **options: Any) -> Node:
        taken = {node.name for node in self.nodes}
        unique, count = name, 1
        while unique in taken:
            count += 1
            unique = f"{name}-{count}"
        node = Node(unique, step, arguments, **options)
        self.nodes.append(node)
        return node


_building: ContextVar[Graph | None] = ContextVar("building", default=None)


class Step(Generic[P, R]):
    """A function that a pipeline calls; outside a pipeline it is just the function."""

    def __init__(
        self,
        function: Callable[P, R],
        retries: int = 0,
        timeout: str | None = None,
        cache: bool = True,
        resources: Resources | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = function.__name__
        self.retries = retries
        self.timeout_s = seconds(timeout) if timeout else None
        self.cache = cache
        self.resources = resources or Resources()
        self.signature = inspect.signature(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        graph = _building.get()
        if graph is None:
            return self.function(*args, **kwargs)
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = _flat(self.signature, bound)
        self._check_types(arguments)
        count = output_count(self.function)
        node = graph.add(self.name, self, arguments, outputs=count or 1)
        handle: Any = tuple(Output(node, index) for index in range(count)) if count else Output(node)
        return handle

    def output_types(self) -> list[Any]:
        """The annotated type of each output; `Any` where there is none."""
        returned = typing.get_type_hints(self.function).get("return", Any)
        return list(typing.get_args(returned)) if output_count(self.function) else [returned]

    def _check_types(self, arguments: dict[str, Any]) -> None:
        hints = typing.get_type_hints(self.function)
        for name, value in arguments.items():
            if not isinstance(value, Output) or value.node.step is None or name not in hints:
                continue
            produced = value.node.step.output_types()[value.index or 0]
            if not _fits(produced, hints[name]):
                raise Invalid(
                    f"Step {self.name!r} takes {name}: {_name(hints[name])}, but step {value.node.name!r} "
                    f"returns {_name(produced)}.",
                    remedy="Change one of the two annotations, or convert in between.",
                )


def _flat(signature: inspect.Signature, bound: inspect.BoundArguments) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(value)
        else:
            arguments[name] = list(value) if isinstance(value, tuple) and _holds_output(value) else value
    return arguments


def _holds_output(value: Any) -> bool:
    return any(isinstance(item, Output) for item in walk(value))


def walk(value: Any) -> list[Any]:
    """Every leaf of nested dicts, lists and tuples."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in walk(item)]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in walk(item)]
    return [value]


def output_count(function: Callable[..., Any]) -> int:
    """How many outputs a function declares by `-> tuple[A, B]`; 0 for a single one."""
    returned = typing.get_type_hints(function).get("return")
    arguments = typing.get_args(returned)
    if typing.get_origin(returned) is tuple and arguments and Ellipsis not in arguments:
        return len(arguments)
    return 0


def _fits(produced: Any, wanted: Any) -> bool:
    """Whether a produced type can be passed; only plain classes are judged, anything else is let through."""
    if isinstance(produced, type) and isinstance(wanted, type):
        return issubclass(produced, wanted) or (produced is int and wanted is float)
    return True


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))


class Pipeline(Generic[P]):
    """A function that calls steps; `trace` gives its graph. Called directly, its steps just run."""

    def __init__(self, function: Callable[P, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = function.__name__
        self.signature = inspect.signature(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self.function(*args, **kwargs)

    def trace(self, params: dict[str, Any]) -> Graph:
        """The graph for these parameters. Raises Invalid for a parameter that there is not."""
        unknown = sorted(set(params) - set(self.signature.parameters))
        if unknown:
            known = ", ".join(self.signature.parameters) or "none"
            raise Invalid(f"Pipeline {self.name!r} has no parameter {unknown[0]!r}.", remedy=f"It has: {known}.")
        try:
            bound = self.signature.bind(**params)
        except TypeError as error:
            raise Invalid(f"Pipeline {self.name!r}: {error}.", remedy="Give it: --param NAME=VALUE") from error
        bound.apply_defaults()
        graph = Graph(self.name, dict(bound.arguments))
        token = _building.set(graph)
        try:
            self.function(*bound.args, **bound.kwargs)
        finally:
            _building.reset(token)
        return graph


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *, retries: int = 0, timeout: str | None = None, cache: bool = True, resources: Resources | None = None
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a step.

    retries: how often a step that raises is run again, pausing 1, 2, 4 ... s. timeout: such as `20m`; a step that
    takes longer is stopped. cache: False runs it each time. resources: CPUs and a memory limit.
    """
    if function is not None:
        return Step(function)
    return lambda decorated: Step(decorated, **options)


def pipeline(function: Callable[P, Any]) -> Pipeline[P]:
    """Make a function a pipeline."""
    return Pipeline(function)


def register(model_name: str, *, model: Any, evaluation: Any = None, reference: Any = None) -> None:
    """Register `model` as a new version of `model_name`, with its evaluation and its reference window.

    Inside a pipeline it becomes the last thing that the run does; it is never cached. Raises Invalid outside.
    """
    graph = _building.get()
    if graph is None:
        raise Invalid(
            "yard.register works inside a pipeline run.",
            remedy="Run the pipeline: modelyard run FILE.py:PIPELINE; in a test, call its steps one by one.",
        )
    arguments = {"model": model, "evaluation": evaluation, "reference": reference}
    graph.add(f"register-{model_name}", None, arguments, registration=model_name)
