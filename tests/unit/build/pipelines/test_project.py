"""Finding pipelines, and text into parameters."""

from pathlib import Path

import pytest

import modelyard as yard
from modelyard.build.pipelines.project import coerce, load_pipeline
from modelyard.domain.errors import Invalid, NotFound, StepFailed


@yard.pipeline
def train(
    months: tuple[int, int] = (1, 3),
    names: list[str] | None = None,
    rate: float = 0.1,
    deep: bool = False,
    until: str = "",
    rows=10,
):
    return None


def test_text_is_coerced_by_annotation():
    given = {"months": "2, 4", "rate": "1e-3", "deep": "true", "until": "2013-03-01", "rows": "5"}
    assert coerce(train, given) == {
        "months": (2, 4),
        "rate": 0.001,
        "deep": True,
        "until": "2013-03-01",
        "rows": 5,
    }
    assert coerce(train, {"names": "none"}) == {"names": None}
    assert coerce(train, {"names": "a,b"}) == {"names": ["a", "b"]}


@pytest.mark.parametrize("given", [{"rate": "fast"}, {"months": "1,x"}, {"deep": "yes please"}, {"rows": "1.5"}])
def test_text_that_does_not_fit_names_parameter_and_value(given: dict[str, str]):
    ((name, _),) = given.items()
    with pytest.raises(Invalid, match=f"Parameter {name}"):
        coerce(train, given)


def test_an_unknown_parameter_lists_the_known_ones():
    with pytest.raises(Invalid, match="'month'") as error:
        coerce(train, {"month": "1"})
    assert "months, names, rate" in error.value.remedy


def test_a_reference_without_a_pipeline(tmp_path: Path):
    with pytest.raises(Invalid, match="does not name a pipeline") as error:
        load_pipeline(tmp_path, "pipeline.py")
    assert "FILE.py:PIPELINE" in error.value.remedy


def test_a_missing_file_lists_the_files(tmp_path: Path):
    (tmp_path / "train.py").touch()
    with pytest.raises(NotFound, match=r"no file 'pipeline\.py'") as error:
        load_pipeline(tmp_path, "pipeline.py:main")
    assert "train.py" in error.value.remedy


def test_a_missing_pipeline_lists_the_pipelines(tmp_path: Path):
    (tmp_path / "found_here.py").write_text("import modelyard as yard\n@yard.pipeline\ndef retrain(): ...\n")
    with pytest.raises(NotFound, match="no pipeline 'main'") as error:
        load_pipeline(tmp_path, "found_here.py:main")
    assert "retrain" in error.value.remedy


def test_a_file_that_does_not_import_is_named_with_its_line(tmp_path: Path):
    (tmp_path / "broken_here.py").write_text("x = 1\ny = x / 0\n")
    with pytest.raises(StepFailed, match=r"ZeroDivisionError.*broken_here\.py:2"):
        load_pipeline(tmp_path, "broken_here.py:main")


def test_a_tuple_of_the_wrong_length_is_refused():
    with pytest.raises(Invalid):
        coerce(train, {"months": "1,2,3"})
