"""The project file and what it names, read without importing anything."""

from collections.abc import Callable
from pathlib import Path

from modelyard.build.ci import project_file
from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import verdict


def test_a_good_project_has_no_findings(context: Callable[..., Context]):
    outcome = project_file.check(context())
    assert outcome.findings == []
    assert outcome.summary == "1 model, 1 pipeline"


def test_a_broken_key_is_named_with_its_line(small: Path, context: Callable[..., Context]):
    made = context()
    text = (small / "modelyard.toml").read_text().replace("primary_metric", "primary_metrik")
    (small / "modelyard.toml").write_text(text)
    outcome = project_file.check(made)
    assert verdict(outcome) == "failed"
    assert "primary_metrik" in outcome.findings[0].message
    assert outcome.findings[0].line == 1 + text.splitlines().index('primary_metrik = "roc_auc"')


def test_a_pipeline_that_is_not_there_is_named_beside_those_that_are(small: Path, context: Callable[..., Context]):
    text = (small / "modelyard.toml").read_text().replace("pipeline.py:main", "pipeline.py:mian")
    (small / "modelyard.toml").write_text(text)
    (found,) = project_file.check(context()).findings
    assert found.rule == "unknown-pipeline"
    assert "pipeline.py:main" in found.remedy


def test_pipelines_are_found_in_the_source_of_every_own_file(small: Path, context: Callable[..., Context]):
    (small / "more").mkdir()
    (small / "more" / "other.py").write_text("@pipeline\ndef nightly(day, *, hour=3, zone): ...\n")
    (small / "more" / "broken.py").write_text("@pipeline\ndef (")
    for hidden in (".venv", "node_modules"):
        (small / hidden).mkdir()
        (small / hidden / "hidden.py").write_text("@pipeline\ndef hidden(): ...\n")
    assert project_file.pipelines(context()) == ["more/other.py:nightly", "pipeline.py:main"]
    assert project_file.required_params(small, "more/other.py:nightly") == ["day", "zone"]
