"""Pipelines really run, in fresh processes, and changing nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.build.ci import pipeline_checks
from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import verdict
from tests.unit.build.ci.conftest import LIGHT


def test_a_reproducible_pipeline_runs_twice_to_the_same_outputs(small: Path, context: Callable[..., Context]):
    (small / "pipeline.py").write_text(LIGHT.format(seed=1, order="sorted"))
    made = context()
    outcome = pipeline_checks.sample_run(made)
    assert (outcome.findings, [case.failure for case in outcome.cases]) == ([], [None])
    run = made.rehearsals["pipeline.py:main"]
    assert {name: note.state for name, note in run.steps.items()} == dict.fromkeys(
        ("draw", "names", "total"), "finished"
    )
    assert run.cpu_seconds > 0 and run.peak_bytes > 10 << 20
    assert pipeline_checks.reproducibility(made).findings == []
    assert not (small / ".modelyard").exists()


@pytest.mark.parametrize(("seed", "order", "named"), [(None, "sorted", "draw"), (1, "list", "names")])
def test_a_random_step_is_named(
    small: Path, context: Callable[..., Context], seed: int | None, order: str, named: str
):
    (small / "pipeline.py").write_text(LIGHT.format(seed=seed, order=order))
    made = context()
    pipeline_checks.sample_run(made)
    outcome = pipeline_checks.reproducibility(made)
    assert verdict(outcome) == "failed"
    (found,) = outcome.findings
    assert repr(named) in found.message
    assert "random_state=0" in found.remedy


def test_a_failing_step_and_parameters_without_defaults_are_told_apart(small: Path, context: Callable[..., Context]):
    (small / "pipeline.py").write_text(
        "import modelyard as yard\n"
        "@yard.step\ndef broken() -> int:\n    raise ValueError('no such table')\n"
        "@yard.pipeline\ndef main(): broken()\n"
        "@yard.pipeline\ndef daily(day: str): broken()\n"
    )
    made = context()
    outcome = pipeline_checks.sample_run(made)
    rules = {item.rule: item for item in outcome.findings}
    assert set(rules) == {"run-failed", "not-run"}
    assert "no such table" in rules["run-failed"].message
    assert "day" in rules["not-run"].message
    assert verdict(outcome) == "failed"
    assert pipeline_checks.reproducibility(made).skipped


def test_a_model_that_no_pipeline_registers_fails_its_gates(small: Path, context: Callable[..., Context]):
    (found,) = pipeline_checks.gate_check(context(gates=True)).findings
    assert found.rule == "no-evaluation"
    assert pipeline_checks.gate_check(context()).skipped
