"""Values of steps that ran in the runner's own process: kept for their readers, each of whom gets one of its own."""

from typing import Any

from modelyard.build.pipelines import serializers
from modelyard.build.pipelines.cache import CONTAINERS, Cache, Result
from modelyard.build.pipelines.execution import stored_of
from modelyard.build.pipelines.nodes import Node, Output, Stored, rebuild

IMMUTABLE = ("bytes", "polars", "arrow-table", "datetime")


class Values:
    """No step sees what another one changed in place; the last reader takes the value itself."""

    def __init__(self, cache: Cache, held: dict[str, Result]) -> None:
        self._cache, self._held = cache, held
        self._memory: dict[str, dict[int, Any]] = {}
        self._readers: dict[str, int] = {}

    def expect(self, node: Node, readers: int) -> None:
        """So many nodes will read this one's outputs."""
        self._readers[node.name] = readers

    def keep(self, name: str, values: list[Any]) -> None:
        if self._readers.get(name):
            self._memory[name] = dict(enumerate(values))

    def done(self, name: str) -> None:
        """One reader fewer."""
        self._readers[name] = self._readers.get(name, 1) - 1
        if self._readers[name] <= 0:
            self._memory.pop(name, None)

    def arguments(self, node: Node, retries_left: bool) -> dict[str, Any]:
        """The arguments of a node with every output read."""

        def leaf(value: Any) -> Any:
            if isinstance(value, Output):
                return self.read(value, retries_left)
            return self._cache.load(value) if isinstance(value, Stored) else value

        return rebuild(node.arguments, leaf)

    def read(self, output: Output, again: bool = False) -> Any:
        """An output's value; `again`: the same reader may ask once more."""
        name, index = output.node.name, output.index or 0
        stored = stored_of(output, self._held)
        held = self._memory.get(name, {})
        if index not in held or output.field is not None or not self._exact(stored, held[index]):
            value = self._cache.load(stored)
            if self._readers.get(name, 0) > 1 and output.field is None and stored.text is None:
                self._memory.setdefault(name, {})[index] = value
                return self._own(value, stored)
            return value
        if self._readers[name] <= 1 and not again:
            return held[index]
        return self._own(held[index], stored)

    def _exact(self, stored: Stored, value: Any) -> bool:
        if stored.format in CONTAINERS or stored.text is not None:
            return False
        return serializers.named(stored.format).exact(value)

    def _own(self, value: Any, stored: Stored) -> Any:
        """A value that its reader may change."""
        if stored.format in IMMUTABLE:
            return value
        if stored.format == "arrow":
            import pandas as pd  # the value is one of its frames: it is loaded already

            lazy = int(pd.__version__.partition(".")[0]) >= 3  # since then a shallow copy is copied on write
            return value.copy(deep=not lazy)
        import copy  # late: few values need it

        return copy.deepcopy(value)
