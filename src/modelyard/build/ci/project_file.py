"""The project file: readable, and what it names exists."""

import ast
from pathlib import Path

from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import Finding, Outcome, Severity
from modelyard.domain.errors import ConfigError
from modelyard.domain.project import parse_project

FILE = "modelyard.toml"


def check(context: Context) -> Outcome:
    """modelyard.toml parses, and the pipelines and columns that it names are there."""
    text = (context.folder / FILE).read_text(encoding="utf-8", errors="replace")
    try:
        project = parse_project(text, FILE)
    except ConfigError as error:
        line = _line_of(text, error.message)
        return Outcome(
            "not valid", [Finding("project-file", Severity.ERROR, error.message, error.remedy, FILE, line)]
        )
    findings: list[Finding] = []
    found = pipelines(context)
    for name, model in project.models.items():
        if model.pipeline and model.pipeline not in found:
            known = ", ".join(found) or "none yet"
            message = f"models.{name}.pipeline names {model.pipeline!r}, which is not a pipeline of this project."
            line = _line_of(text, model.pipeline)
            findings.append(
                Finding("unknown-pipeline", Severity.ERROR, message, f"Its pipelines: {known}.", FILE, line)
            )
        if not model.gates:
            message = f"Model {name!r} has no gates: every version passes."
            remedy = f"Declare a floor under [models.{name}.gates], such as roc_auc = {{ min = 0.7 }}."
            findings.append(Finding("no-gates", Severity.WARNING, message, remedy, FILE))
    return Outcome(f"{len(project.models)} models, {len(found)} pipelines", findings)


def pipelines(context: Context) -> list[str]:
    """Every `FILE.py:PIPELINE` of the project, read from the source: nothing is imported."""
    found: list[str] = []
    for path in context.python_files():
        source = (context.folder / path).read_text(encoding="utf-8", errors="replace")
        if "pipeline" not in source:
            continue
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue  # the lint, test and sample checks say so with their own words
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        found += [f"{path.as_posix()}:{node.name}" for node in functions if _is_pipeline(node)]
    return found


def _is_pipeline(node: ast.FunctionDef) -> bool:
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if name == "pipeline":
            return True
    return False


def required_params(folder: Path, reference: str) -> list[str]:
    """The parameters of a pipeline that have no default, read from the source."""
    file, _, name = reference.partition(":")
    for node in ast.parse((folder / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            plain = node.args.posonlyargs + node.args.args
            missing = [argument.arg for argument in plain[: len(plain) - len(node.args.defaults)]]
            pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            return missing + [argument.arg for argument, default in pairs if default is None]
    return []


def _line_of(text: str, words: str) -> int | None:
    """The line that an error speaks of: the one it numbers, or the first that holds the last key it names."""
    if "(at line " in words:
        number = words.partition("(at line ")[2].partition(",")[0]
        return int(number) if number.isdigit() else None
    quoted = words.split("'")[1] if words.count("'") >= 2 else words
    key = quoted.rpartition(".")[2] if "'" in words else quoted
    for number, line in enumerate(text.splitlines(), 1):
        if key and key in line:
            return number
    return None
