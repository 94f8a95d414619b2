"""The project file: readable, and what it names exists."""

import ast
from collections.abc import Sized
from pathlib import Path

from modelyard.build.ci.context import Context
from modelyard.build.ci.findings import Finding, Outcome, Severity
from modelyard.build.schedules import by_event
from modelyard.domain.errors import ConfigError
from modelyard.domain.project import Project, parse_project

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
    broken = _unreadable(context)
    findings = list(broken.values())
    found = pipelines(context)
    for key, reference in _named(project):
        if reference in found or reference.partition(":")[0] in broken:
            continue
        message = f"{key} names {reference!r}, which is not a pipeline of this project."
        remedy = f"Its pipelines: {', '.join(found) or 'none yet'}."
        findings.append(Finding("unknown-pipeline", Severity.ERROR, message, remedy, FILE, _line_of(text, reference)))
    try:
        by_event.check(project)
    except ConfigError as error:
        findings.append(Finding("unknown-event", Severity.ERROR, error.message, error.remedy, FILE))
    for name, model in project.models.items():
        if not model.gates:
            message = f"Model {name!r} has no gates: every version passes."
            remedy = f"Declare a floor under [models.{name}.gates], such as roc_auc = {{ min = 0.7 }}."
            findings.append(Finding("no-gates", Severity.WARNING, message, remedy, FILE))
    return Outcome(f"{_counted(project.models, 'model')}, {_counted(found, 'pipeline')}", findings)


def _counted(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _named(project: Project) -> list[tuple[str, str]]:
    """(key, pipeline) of every pipeline that the file names."""
    models = [(f"models.{name}.pipeline", model.pipeline) for name, model in project.models.items()]
    started = [(f"pipelines.{name}.pipeline", each.pipeline) for name, each in project.pipelines.items()]
    return [(key, pipeline) for key, pipeline in (*models, *started) if pipeline]


def _unreadable(context: Context) -> dict[str, Finding]:
    """By file, what keeps Python from reading it, in files that mention a pipeline."""
    found: dict[str, Finding] = {}
    for path in context.python_files():
        source = (context.folder / path).read_text(encoding="utf-8", errors="replace")
        if "pipeline" not in source:
            continue
        try:
            ast.parse(source)
        except (SyntaxError, ValueError) as error:
            file, line = path.as_posix(), getattr(error, "lineno", None)
            message = f"{file} is not valid Python: {getattr(error, 'msg', error)}."
            found[file] = Finding("syntax-error", Severity.ERROR, message, "Mend the line.", file, line)
    return found


def pipelines(context: Context) -> list[str]:
    """Every `FILE.py:PIPELINE` of the project, read from the source: nothing is imported."""
    found: list[str] = []
    for path in context.python_files():
        source = (context.folder / path).read_text(encoding="utf-8", errors="replace")
        if "pipeline" not in source:
            continue
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue  # `check` says so
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
