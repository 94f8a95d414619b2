"""What is shown of a pipeline without running it: its drawing, why a step would run; and how rows are thinned."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelyard.build.pipelines import drawing, sampling
from modelyard.build.pipelines.explain import explain_step
from modelyard.build.pipelines.graph import pipeline, step
from modelyard.build.pipelines.runner import Runner
from modelyard.domain.errors import NotFound


@step
def load(rows: int) -> list[int]:
    return list(range(rows))


@step(retries=2, timeout="5s")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@step(cache=False)
def tell(number: int) -> int:
    return number


@pipeline
def shown(rows: int = 3) -> None:
    tell(total(load(rows)))


def test_a_drawing_names_every_step_and_what_is_special() -> None:
    graph = shown.trace({"rows": 4})
    text = drawing.as_text(graph)
    assert text.splitlines()[0] == "shown(rows=4)" and "<- load" in text and "[retries 2, timeout 5 s]" in text
    drawn = ET.fromstring(drawing.as_svg(graph))
    words = {element.text for element in drawn.iter() if element.tag.endswith("}text")}
    assert {"load", "total", "tell"} <= words


def test_a_step_is_explained_before_and_after_it_ran(tmp_path: Path) -> None:
    graph = shown.trace({})

    def now(name: str) -> str:
        return explain_step(shown.trace({}), name, Path(__file__).parent, tmp_path)[-1]

    assert explain_step(graph, "load", Path(__file__).parent, tmp_path)[0] == "load: never ran here"
    assert "which runs first" in now("total")
    Runner(graph, Path(__file__).parent, Path(__file__).name, tmp_path).run()
    assert "taken from the cache" in now("total") and "cache=False" in now("tell")
    with pytest.raises(NotFound, match="Steps: load, total, tell"):
        now("sum")


@pytest.mark.parametrize("rows", [pd.DataFrame({"a": range(1000)}), np.arange(1000), list(range(1000))])
def test_rows_are_thinned_the_same_way_each_time(rows: object) -> None:
    first, second = (sampling.sampled(rows, 0.1) for _ in range(2))
    assert len(first) == 100 and np.array_equal(np.asarray(first), np.asarray(second))
    assert len(sampling.sampled(rows, 0.001)) == sampling.LEAST_ROWS
    assert len(sampling.sampled(rows, 1.0)) == 1000


def test_few_rows_and_other_values_stay_as_they_are() -> None:
    assert sampling.sampled([1, 2], 0.1) == [1, 2] and sampling.sampled("text", 0.1) == "text"
