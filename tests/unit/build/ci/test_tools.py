"""The project's own tools, really run."""

from collections.abc import Callable
from pathlib import Path

from modelyard.build.ci import tools
from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import verdict


def test_tools_that_are_not_configured_are_skipped(context: Callable[..., Context]):
    made = context()
    assert [tools.lint(made).skipped, tools.types(made).skipped, tools.unit_tests(made).skipped] == [True] * 3


def test_lint_findings_carry_rule_file_and_line(small: Path, context: Callable[..., Context]):
    (small / "ruff.toml").write_text('lint.select = ["F"]\n')
    assert verdict(tools.lint(context())) == "passed"
    (small / "unused.py").write_text("x = 1\nimport os\n")
    (found,) = tools.lint(context()).findings
    assert (found.rule, found.place) == ("F401", "unused.py:2")
    assert "--fix" in found.remedy


def test_a_linter_that_cannot_run_fails_and_says_so(small: Path, context: Callable[..., Context]):
    (small / "ruff.toml").write_text("no-such-setting = 1\n")
    (found,) = tools.lint(context()).findings
    assert found.rule == "broken-tool"
    assert "python -m ruff" in found.remedy


def test_a_configured_tool_that_is_missing_names_its_installation(small: Path, context: Callable[..., Context]):
    (small / ".flake8").write_text("[flake8]\n")
    (found,) = tools.lint(context()).findings
    assert (found.rule, found.remedy) == ("missing-tool", "pip install flake8")


def test_failing_tests_are_named_and_the_others_counted(small: Path, context: Callable[..., Context]):
    (small / "test_it.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2\n"
        "@pytest.mark.skip\ndef test_later(): pass\n"
    )
    outcome = tools.unit_tests(context())
    assert outcome.summary == "1 of 3 tests passed"
    (found,) = outcome.findings
    assert found.file == "test_it.py"
    assert found.message.startswith("test_bad: ")


def test_a_test_file_that_does_not_import_says_why(small: Path, context: Callable[..., Context]):
    (small / "test_it.py").write_text("import no_such_module_here\n")
    (found,) = tools.unit_tests(context()).findings
    assert "no_such_module_here" in found.message
    assert found.file == "test_it.py"
