"""Steps and pipelines: plain functions that, called inside a pipeline, build its graph."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, overload

from modelyard.build.pipelines.binding import Parameters, fits, hints, item_type, several, type_name
from modelyard.build.pipelines.nodes import CHOOSE, MAP, REGISTER, Graph, Output, building
from modelyard.domain.errors import Invalid, ModelyardError
from modelyard.domain.sections import seconds

P = ParamSpec("P")
R = TypeVar("R")


class Resources(NamedTuple):
    """What a step asks for: CPUs, a memory limit such as `4GiB`, and GPUs of a Ray cluster's node."""

    cpu: float = 1
    memory: str | None = None
    gpu: float = 0


class Step(Generic[P, R]):
    """A function that a pipeline calls; outside a pipeline it is just the function."""

    def __init__(
        self,
        function: Callable[P, R],
        retries: int = 0,
        timeout: str | None = None,
        cache: bool = True,
        resources: Resources | None = None,
        environment: str | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = function.__name__
        self.retries = retries
        self.timeout_s = seconds(timeout) if timeout else None
        self.cache = cache
        self.resources = resources or Resources()
        self.environment = environment
        self.parameters = Parameters(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        graph = building.get()
        if graph is None:
            return self.function(*args, **kwargs)
        arguments = self.parameters.bind(f"Step {self.name!r}", args, kwargs)
        self._check_types(arguments)
        kinds = self.outputs
        node = graph.add(self.name, self, arguments, outputs=len(kinds) or 1)
        if not kinds:
            return self._handle(Output(node, kind=self.returned))
        items = [Output(node, index, kind=kind) for index, kind in enumerate(kinds)]
        named = hasattr(self.returned, "_fields")
        return self._handle(self.returned(*items) if named else tuple(items))

    def _handle(self, outputs: Any) -> R:
        """In a graph, what stands for the function's value."""
        return outputs

    def map(self, *items: Iterable[Any], **fixed: Any) -> list[R]:
        """The step on each item: `fit.map(folds, learning_rate=0.1)`. Several iterables are taken side by side;
        what is passed by name is the same for all. The iterable may be an output that is known only at run time.
        """
        return fan_out(self, self.name, items, fixed)

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        return hints(self.function)

    @functools.cached_property
    def returned(self) -> Any:
        return self.hints.get("return", Any)

    @functools.cached_property
    def outputs(self) -> list[Any]:
        """The types of several outputs; empty when there is one."""
        return several(self.returned)

    def _check_types(self, arguments: dict[str, Any]) -> None:
        for name, value in arguments.items():
            if not isinstance(value, Output):
                continue
            wanted = self.hints.get(name, Any)
            if not fits(value.kind, wanted):
                raise Invalid(
                    f"Step {self.name!r} takes {name}: {type_name(wanted)}, but step {value.node.name!r} "
                    f"returns {type_name(value.kind)}.",
                    remedy="Change one of the two annotations, or convert in between.",
                )

    def check_item(self, source: Output) -> None:
        """Raise Invalid when the items of a list cannot be this step's first argument."""
        names = self.parameters.positional
        wanted = self.hints.get(names[0], Any) if names else Any
        if not fits(item_type(source.kind), wanted):
            raise Invalid(
                f"Step {self.name!r} takes {names[0]}: {type_name(wanted)}, but the items of step "
                f"{source.node.name!r} are {type_name(item_type(source.kind))}.",
                remedy="Change one of the two annotations.",
            )


class Pipeline(Generic[P, R]):
    """A function that calls steps; `trace` gives its graph. Called directly, its steps just run."""

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = function.__name__
        self.parameters = Parameters(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        graph = building.get()
        if graph is None:
            return self.function(*args, **kwargs)
        with graph.inside(self.name):
            return self.function(*args, **kwargs)

    def map(self, *items: Iterable[Any], **fixed: Any) -> list[R]:
        """The pipeline on each item, as `Step.map`."""
        return fan_out(self, self.name, items, fixed)

    def trace(self, params: dict[str, Any]) -> Graph:
        """The graph for these parameters. Raises Invalid for a parameter that there is not, StepFailed when the
        pipeline's own lines raise.
        """
        from modelyard.build.pipelines.failures import explain  # late: only failures need it

        unknown = sorted(set(params) - set(self.parameters.names))
        known = ", ".join(self.parameters.names) or "none"
        if unknown and self.parameters.variadic_named is None:
            raise Invalid(f"Pipeline {self.name!r} has no parameter {unknown[0]!r}.", remedy=f"It has: {known}.")
        missing = [name for name in self.parameters.names if name not in params | self.parameters.defaults]
        if missing:
            raise Invalid(
                f"Pipeline {self.name!r} needs {', '.join(missing)}.", remedy=f"Give it: --param {missing[0]}=VALUE"
            )
        given = {name: {**self.parameters.defaults, **params}[name] for name in self.parameters.names}
        graph = Graph(self.name, given)
        args, kwargs = self.parameters.call(given)
        token = building.set(graph)
        try:
            self.function(*args, **kwargs)  # pyright: ignore[reportCallIssue]
        except ModelyardError:
            raise
        except Exception as error:
            raise explain(f"Pipeline {self.name!r}", error) from error
        finally:
            building.reset(token)
        return graph

    def run(self, **params: Any) -> Any:
        """Run it as `modelyard run` does, from a script or a notebook; the outcome holds states and metrics."""
        from modelyard.build.pipelines.session import run_pipeline  # late: tracing alone runs nothing

        return run_pipeline(self, params)


def fan_out(target: Any, name: str, items: tuple[Any, ...], fixed: dict[str, Any]) -> Any:
    """A call on each item: at once when the items are known, when they become known otherwise."""
    if not items:
        raise Invalid(f"{name}.map needs something to go over.", remedy=f"Write {name}.map(items).")
    graph = building.get()
    unknown = [item for item in items if isinstance(item, Output)]
    if graph is None or not unknown:
        return [target(*each, **fixed) for each in zip(*items, strict=True)]
    if isinstance(target, Step) and len(items) == 1:
        target.check_item(unknown[0])
    returned = target.returned if isinstance(target, Step) else Any
    node = graph.add(name, target, {"items": list(items), "fixed": fixed}, kind=MAP)
    return Output(node, kind=list[returned])


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    retries: int = 0,
    timeout: str | None = None,
    cache: bool = True,
    resources: Resources | None = None,
    environment: str | None = None,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a step.

    retries: how often a step that raises is run again, pausing 1, 2, 4 ... s. timeout: such as `20m`; a step that
    takes longer is stopped. cache: False runs it each time. resources: CPUs, a memory limit, GPUs. environment: the
    name of a declared environment to run in, with libraries of its own.
    """
    if function is not None:
        return Step(function)
    return lambda decorated: Step(decorated, **options)


def pipeline(function: Callable[P, R]) -> Pipeline[P, R]:
    """Make a function a pipeline."""
    return Pipeline(function)


def when(condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any] | None = None) -> Any:
    """What `then` returns if the condition holds, else what `otherwise` returns (None without one).

    In a pipeline the condition may be a step's output: both branches become part of the graph, and the steps of the
    one not taken are skipped. `model = yard.when(large(rows), lambda: deep(rows), lambda: shallow(rows))`
    """
    graph = building.get()
    if graph is None or not isinstance(condition, Output):
        return then() if condition else (otherwise() if otherwise else None)
    with graph.guarded(condition, True):
        first = then()
    with graph.guarded(condition, False):
        second = otherwise() if otherwise else None
    arguments = {"condition": condition, "then": first, "otherwise": second}
    node = graph.add(f"when-{condition.node.name}", None, arguments, kind=CHOOSE)
    if isinstance(first, tuple) and isinstance(second, tuple) and len(first) == len(second):
        return tuple(Output(node, index) for index in range(len(first)))
    return Output(node, kind=getattr(first, "kind", Any) if isinstance(first, Output) else Any)


def register(
    model_name: str,
    *,
    model: Any,
    evaluation: Any = None,
    reference: Any = None,
    old: Any = None,
    onnx_within: float | None = None,
    answers: str = "",
) -> None:
    """Register `model` as a new version of `model_name`, with its evaluation and its reference window.

    old: labelled rows of an earlier time; the champion is measured on them too, and how much worse the new version is
    there becomes the metric `forgotten`, for a gate. answers: what the endpoint answers, `classes` or
    `probabilities`; by default the probabilities of two classes and the names of several. Monitors know the
    confidence, and log loss, of several classes only where their probabilities are answered.

    onnx_within: also write the model as ONNX, which ONNX Runtime then serves instead of the model's own library, if
    no answer on the reference window is off by more than that (relative to 1 + its size), such as 1e-9.

    Inside a pipeline it becomes the last thing that the run does; it is never cached. Raises Invalid outside.
    """
    graph = building.get()
    if graph is None:
        raise Invalid(
            "yard.register works inside a pipeline run.",
            remedy="Run the pipeline: modelyard run FILE.py:PIPELINE; in a test, call its steps one by one.",
        )
    arguments = {
        "model": model,
        "evaluation": evaluation,
        "reference": reference,
        "old": old,
        "onnx_within": onnx_within,
        "answers": answers,
    }
    graph.add(f"register-{model_name}", None, arguments, registration=model_name, kind=REGISTER)
