"""What calling steps inside a pipeline builds, and what it refuses."""

from collections.abc import Sequence
from typing import Protocol

import pytest

import modelyard as yard
from modelyard.build.pipelines.nodes import Output
from modelyard.domain.errors import Invalid, StepFailed


@yard.step
def number(start: int = 1) -> int:
    return start


@yard.step
def double(value: int) -> int:
    return value * 2


@yard.step
def pair() -> tuple[int, str]:
    return 1, "a"


@yard.step
def shout(text: str) -> str:
    return text.upper()


@yard.step
def add(values: list[int]) -> int:
    return sum(values)


@yard.step
def ratio(value: float) -> float:
    return value / 2


@yard.step
def count(rows: Sequence) -> int:  # type: ignore[type-arg]
    return len(rows)


@yard.pipeline
def inner(start: int = 1):
    return double(number(start))


def test_outside_a_pipeline_steps_are_plain_functions():
    assert double(number(4)) == 8
    assert pair() == (1, "a")
    assert inner(5) == 10


def test_calls_become_nodes_in_order_with_unique_names():
    @yard.pipeline
    def main(start: int = 3):
        double(double(number(start)))

    graph = main.trace({})
    assert [node.name for node in graph.nodes] == ["number", "double", "double-2"]
    assert graph.params == {"start": 3}
    assert [parent.name for parent in graph.nodes[2].parents] == ["double"]
    assert main.trace({"start": 7}).nodes[0].arguments == {"start": 7}


def test_several_outputs_unpack():
    @yard.pipeline
    def main():
        _, text = pair()
        shout(text)

    value = main.trace({}).nodes[1].arguments["text"]
    assert isinstance(value, Output) and value.index == 1


def test_outputs_inside_lists_are_found():
    @yard.pipeline
    def main():
        add([number(1), number(2), 3])

    assert [parent.name for parent in main.trace({}).nodes[2].parents] == ["number", "number-2"]


def test_a_pipeline_called_in_a_pipeline_adds_its_steps():
    @yard.pipeline
    def outer():
        double(inner(2))

    assert [node.name for node in outer.trace({}).nodes] == ["number", "double", "double-2"]


def test_types_are_checked_when_the_graph_is_built():
    @yard.pipeline
    def main():
        shout(number())

    with pytest.raises(Invalid, match=r"'shout' takes text: str, but step 'number' returns int"):
        main.trace({})


def test_each_output_of_a_tuple_is_checked_by_its_own_type():
    @yard.pipeline
    def main():
        first, _ = pair()
        shout(first)

    with pytest.raises(Invalid, match="returns int"):
        main.trace({})


def test_an_int_fits_a_float_and_a_list_does_not_fit_a_number():
    @yard.pipeline
    def main():
        ratio(number())

    assert len(main.trace({}).nodes) == 2


def test_a_missing_step_argument_names_step_and_parameter():
    @yard.pipeline
    def main():
        double()  # type: ignore[call-arg]

    with pytest.raises(Invalid, match="'double' needs value"):
        main.trace({})


def test_an_unknown_parameter_lists_the_known_ones():
    with pytest.raises(Invalid, match="no parameter 'begin'") as error:
        inner.trace({"begin": 1})
    assert "start" in error.value.remedy


def test_a_missing_parameter_says_how_to_give_it():
    @yard.pipeline
    def main(start: int):
        number(start)

    with pytest.raises(Invalid, match="start") as error:
        main.trace({})
    assert "--param" in error.value.remedy


def test_register_is_a_node_inside_and_refused_outside():
    @yard.pipeline
    def main():
        yard.register("m", model=number())

    (_, node) = main.trace({}).nodes
    assert (node.name, node.registration, node.step) == ("register-m", "m", None)
    with pytest.raises(Invalid, match="inside a pipeline") as error:
        yard.register("m", model=1)
    assert "modelyard run" in error.value.remedy


def test_a_failed_trace_leaves_steps_plain():
    @yard.pipeline
    def main():
        number()
        raise RuntimeError("in the pipeline's body")

    with pytest.raises(StepFailed, match=r"RuntimeError.*at test_graph\.py:\d+ in main") as error:
        main.trace({})
    assert isinstance(error.value.__cause__, RuntimeError)
    assert number(2) == 2


def test_options_are_kept():
    @yard.step(retries=2, timeout="20m", cache=False, resources=yard.Resources(cpu=2, memory="1GiB"))
    def slow() -> int:
        return 1

    assert (slow.retries, slow.timeout_s, slow.cache, slow.resources.memory) == (2, 1200, False, "1GiB")


class Sized(Protocol):
    def size(self) -> int: ...


@yard.step
def measure(thing: Sized) -> int:
    return thing.size()


def test_a_protocol_annotation_lets_through():
    @yard.pipeline
    def main():
        measure(number())

    assert len(main.trace({}).nodes) == 2


def test_a_branch_on_an_output_is_refused():
    @yard.pipeline
    def main():
        if number(0):
            double(1)

    with pytest.raises(Invalid):
        main.trace({})
