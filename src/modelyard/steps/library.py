"""Steps of the library: like a project's own, and able to make their arguments fit for a cache key."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from modelyard.build.pipelines.graph import Step
from modelyard.build.pipelines.nodes import building

P = ParamSpec("P")
R = TypeVar("R")
Prepare = Callable[[dict[str, Any]], dict[str, Any]]


class LibraryStep(Step[P, R]):
    """A step whose arguments are prepared when a pipeline calls it: files get their state, estimators a description.

    What a file holds is no part of its name, so without this a step that reads one would never run again.
    """

    def __init__(self, function: Callable[P, R], prepare: Prepare, **options: Any) -> None:
        super().__init__(function, **options)
        self._prepare = prepare

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if building.get() is None:
            return self.function(*args, **kwargs)
        given = self._prepare(self.parameters.bind(f"Step {self.name!r}", args, kwargs))
        return super().__call__(**given)  # pyright: ignore[reportCallIssue]


def library_step(prepare: Prepare, **options: Any) -> Callable[[Callable[P, R]], LibraryStep[P, R]]:
    """Make a function a step of the library; options as of `step`."""
    return lambda function: LibraryStep(function, prepare, **options)
