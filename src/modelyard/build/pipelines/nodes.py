"""The graph that calling steps inside a pipeline builds: nodes, and the values that they will produce.

This module and those it imports load with every `modelyard run`; they leave out dataclasses and inspect, which take
longer to load than ten trivial steps take to run.
"""

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from modelyard.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from modelyard.build.pipelines.graph import Pipeline, Step

STEP, MAP, GATHER, CHOOSE, REGISTER = "step", "map", "gather", "choose", "register"
"""What a node does: runs a step, fans one out, collects outputs, takes one of two branches, registers a version."""


class Stored(NamedTuple):
    """A value in the cache: the digest of its content and its format. `text` carries a small one as JSON; a container
    names its `parts`, and in `text` its class.
    """

    digest: str
    format: str
    size: int = 0
    text: str | None = None
    parts: "tuple[tuple[str, Stored], ...]" = ()


class Output:
    """A value that a node will produce: its only one, its `index` among several, or the `field` of a dataclass."""

    __slots__ = ("field", "index", "kind", "node")

    def __init__(self, node: "Node", index: int | None = None, field: str | None = None, kind: Any = Any) -> None:
        self.node, self.index, self.field, self.kind = node, index, field, kind

    def __getattr__(self, name: str) -> "Output":
        kinds = getattr(self.kind, "__dataclass_fields__", {})
        if name not in kinds or self.field is not None:
            raise AttributeError(f"step {self.node.name!r} declares no output {name!r}")
        return Output(self.node, self.index, name)

    def __bool__(self) -> NoReturn:
        raise Invalid(
            f"The output of step {self.node.name!r} is not known while the graph is built, so it cannot be tested.",
            remedy="Branch on it by yard.when(output, then, otherwise), or decide inside a step.",
        )

    def __iter__(self) -> NoReturn:
        raise Invalid(
            f"Step {self.node.name!r} declares one output, and its items are not known while the graph is built.",
            remedy="Run a step on each item by some_step.map(output), or annotate several outputs: -> tuple[A, B].",
        )


class Node:
    """One call in a pipeline; `name` is unique in its graph. `within`: the sub-pipelines that it is part of."""

    __slots__ = ("arguments", "guards", "kind", "name", "outputs", "parents", "registration", "step", "within")

    def __init__(
        self,
        name: str,
        step: "Step[..., Any] | Pipeline[..., Any] | None",
        arguments: dict[str, Any],
        outputs: int = 1,
        registration: str | None = None,
        kind: str = STEP,
        guards: tuple[tuple[Output, bool], ...] = (),
        within: tuple[str, ...] = (),
    ) -> None:
        self.name, self.step, self.arguments, self.outputs = name, step, arguments, outputs
        self.registration, self.kind, self.guards, self.within = registration, kind, guards, within
        self.parents = self.awaited()

    def awaited(self) -> "list[Node]":
        """The nodes whose outputs this one needs, or that decide whether it runs."""
        needed = [value.node for value in walk(self.arguments) if isinstance(value, Output)]
        return list(dict.fromkeys([*needed, *(output.node for output, _ in self.guards)]))


class Graph:
    """A pipeline's nodes in the order of their calls, which is a topological order."""

    def __init__(self, pipeline: str, params: dict[str, Any]) -> None:
        self.pipeline, self.params = pipeline, params
        self.nodes: list[Node] = []
        self.label: Callable[[str], str] = str
        """How the nodes that are added now are called."""
        self._counts: dict[str, int] = {}
        self._taken: set[str] = set()
        self._guards: tuple[tuple[Output, bool], ...] = ()
        self._within: tuple[str, ...] = ()

    def add(self, name: str, step: Any, arguments: dict[str, Any], **options: Any) -> Node:
        """A new node; the second of a name is called `name-2`."""
        name = unique = self.label(name)
        while unique in self._taken:
            self._counts[name] = self._counts.get(name, 1) + 1
            unique = f"{name}-{self._counts[name]}"
        self._taken.add(unique)
        node = Node(unique, step, arguments, guards=self._guards, within=self._within, **options)
        self.nodes.append(node)
        return node

    @contextmanager
    def guarded(self, condition: Output, wanted: bool) -> "Generator[None, None, None]":
        """Nodes added in here run only when the condition turns out as wanted."""
        held = self._guards
        self._guards = (*held, (condition, wanted))
        try:
            yield
        finally:
            self._guards = held

    @contextmanager
    def inside(self, pipeline: str) -> "Generator[None, None, None]":
        """Nodes added in here are part of a sub-pipeline."""
        held = self._within
        self._within = (*held, pipeline)
        try:
            yield
        finally:
            self._within = held


building: ContextVar[Graph | None] = ContextVar("building", default=None)


def walk(value: Any) -> list[Any]:
    """Every leaf of nested dicts, lists and tuples; a stored value is a leaf."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in walk(item)]
    if isinstance(value, list | tuple) and not isinstance(value, Stored):
        return [leaf for item in value for leaf in walk(item)]
    return [value]


def rebuild(value: Any, leaf: Any) -> Any:
    """The same structure with every leaf replaced by `leaf(value)`."""
    if isinstance(value, dict):
        return {key: rebuild(item, leaf) for key, item in value.items()}
    if isinstance(value, Stored):
        return leaf(value)
    if isinstance(value, list):
        return [rebuild(item, leaf) for item in value]
    if isinstance(value, tuple):
        items = [rebuild(item, leaf) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return leaf(value)
