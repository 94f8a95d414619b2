"""Several outputs, fan-out, branches and pipelines in pipelines, as graphs and as runs."""

from typing import NamedTuple

import pytest

import modelyard as yard
from modelyard.build.pipelines.nodes import Output
from modelyard.domain.errors import Invalid
from tests.unit.build.pipelines.conftest import Project


class Parts(NamedTuple):
    train: list[int]
    test: list[str]


@yard.step
def split() -> Parts:
    return Parts([1], ["a"])


@yard.step
def numbers() -> list[int]:
    return [1, 2]


@yard.step
def double(value: int) -> int:
    return value * 2


@yard.step
def total(values: list[int]) -> int:
    return sum(values)


def test_a_named_tuple_is_several_outputs_each_of_its_type():
    @yard.pipeline
    def main():
        total(split().train)

    value = main.trace({}).nodes[1].arguments["values"]
    assert isinstance(value, Output) and value.index == 0

    @yard.pipeline
    def wrong():
        total(split().test)

    with pytest.raises(Invalid, match=r"takes values: list\[int\], but step 'split' returns list\[str\]"):
        wrong.trace({})


def test_outside_a_pipeline_map_and_when_just_run():
    assert double.map([1, 2, 3]) == [2, 4, 6]
    assert yard.when(True, lambda: double(1), lambda: double(2)) == 2
    assert yard.when(False, lambda: double(1)) is None


def test_the_items_of_a_fan_out_are_checked():
    @yard.step
    def shout(text: str) -> str:
        return text.upper()

    @yard.pipeline
    def main():
        shout.map(numbers())

    with pytest.raises(Invalid, match="takes text: str, but the items of step 'numbers' are int"):
        main.trace({})


def test_an_output_cannot_be_gone_over_while_the_graph_is_built():
    @yard.pipeline
    def main():
        for number in numbers():
            double(number)

    with pytest.raises(Invalid, match="map"):
        main.trace({})


STEPS = """
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Sets:
        train: list[int]
        test: list[int]

    @yard.step
    def load(count: int) -> list[int]:
        return list(range(count))

    @yard.step
    def cut(rows: list[int]) -> Sets:
        return Sets(rows[1:], rows[:1])

    @yard.step
    def square(value: int, offset: int = 0) -> int:
        note(f"square({value})")
        return value * value + offset

    @yard.step
    def total(values: list[int]) -> int:
        note(f"total({sum(values)})")
        return sum(values)

    @yard.step
    def large(value: int) -> bool:
        return value > 10

    @yard.step
    def say(word: str) -> str:
        note(word)
        return word
"""


def test_a_fan_out_over_a_value_known_at_run_time_runs_only_what_is_new(project: Project):
    project.write(
        STEPS
        + """
    @yard.pipeline
    def main(count: int = 3):
        total(square.map(load(count), offset=1))
    """
    )
    states = project.run()["states"]
    assert {"square[0]", "square[1]", "square[2]"} <= set(states)
    assert project.ran() == ["square(0)", "square(1)", "square(2)", "total(8)"]
    project.run(count="4")
    assert project.ran() == ["square(3)", "total(18)"]
    assert set(project.run(count="4")["states"].values()) == {"cached"}


def test_a_fan_out_over_nothing(project: Project):
    project.write(STEPS + "\n    @yard.pipeline\n    def main():\n        total(square.map(load(0)))\n")
    project.run()
    assert project.ran() == ["total(0)"]


def test_a_pipeline_on_each_item(project: Project):
    project.write(
        STEPS
        + """
    @yard.pipeline
    def one(value: int):
        return square(square(value))

    @yard.pipeline
    def main():
        total(one.map(load(3)))
    """
    )
    states = project.run()["states"]
    assert project.ran()[-1] == "total(17)"
    assert "one[2].square" in states and "one[2].square-2" in states


@pytest.mark.parametrize(("count", "word"), [(3, "small"), (9, "large")])
def test_only_the_branch_that_is_taken_runs(project: Project, count: int, word: str):
    project.write(
        STEPS
        + """
    @yard.pipeline
    def main(count: int = 3):
        chosen = yard.when(large(total(load(count))), lambda: say("large"), lambda: say("small"))
        say(chosen)
    """
    )
    answer = project.run(count=str(count))
    assert [line for line in project.ran() if line in ("large", "small")] == [word, word]
    assert sorted(state for name, state in answer["states"].items() if name.startswith("say")) == [
        "finished",
        "finished",
        "skipped",
    ]


def test_the_fields_of_a_dataclass_are_outputs(project: Project):
    project.write(
        STEPS
        + """
    @yard.pipeline
    def main():
        sets = cut(load(4))
        total(sets.train)
    """
    )
    project.run()
    assert project.ran() == ["total(6)"]
    assert set(project.run()["states"].values()) == {"cached"}


def test_frames_in_containers_are_kept_one_by_one(project: Project):
    project.write("""
        import pandas as pd

        @yard.step
        def folds(count: int) -> dict[str, list[pd.DataFrame]]:
            return {"all": [pd.DataFrame({"x": [fold]}) for fold in range(count)]}

        @yard.step
        def look(folds: dict[str, list[pd.DataFrame]]) -> list[int]:
            note([int(frame["x"].sum()) for frame in folds["all"]][-1])
            return [1]

        @yard.pipeline
        def main():
            look(folds(3))
    """)
    project.run()
    assert project.ran() == ["2"]
    assert project.run()["heavy"] == []


def test_libraries_are_loaded_only_to_run_something(project: Project):
    project.write("""
        import numpy as np

        @yard.step
        def load() -> np.ndarray:
            return np.arange(3)

        @yard.step
        def size(rows: np.ndarray, scale: float = np.pi * 1) -> int:
            return len(rows)

        @yard.pipeline
        def main():
            size(load())
    """)
    project.run()
    assert project.run()["heavy"] == ["numpy"], "a stand-in that is used is replaced by the library"
    file = project.folder / "pipeline.py"
    file.write_text(file.read_text().replace(", scale: float = np.pi * 1", ""))
    project.run()
    answer = project.run()
    assert (set(answer["states"].values()), answer["heavy"]) == ({"cached"}, [])
