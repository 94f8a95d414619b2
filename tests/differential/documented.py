"""Runs the examples of MLflow's own documentation: `python documented.py FILE` writes what each printed and raised.

They are the code blocks in the docstrings of the client's public modules, which its API pages are made from.
"""

import ast
import contextlib
import importlib
import inspect
import io
import json
import os
import re
import signal
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from typing import Any

import mlflow

MODULES = """
mlflow.tracking.client mlflow.tracking.fluent mlflow.tracking._model_registry.fluent mlflow.artifacts mlflow.config
mlflow.data mlflow.data.pandas_dataset mlflow.data.numpy_dataset mlflow.models mlflow.models.model
mlflow.models.signature mlflow.models.evaluation.base mlflow.entities.logged_model mlflow.genai.prompts mlflow.pyfunc
mlflow.sklearn mlflow.xgboost mlflow.lightgbm mlflow.statsmodels
""".split()
BLOCK = re.compile(r"(\s*)(\.\. (code-block|testcode)::\s*(python)?|```python)\s*\d?$")
OTHERS = re.compile(
    r"openai|langchain|torch|tensorflow|keras|spark|anthropic|databricks|scorers|judges|gateway|transformers|mcp",
    re.I,
)
"""Examples that need other services or libraries."""
KEPT = re.compile(r"MLFLOW_(TRACKING_|DISABLE_|ENABLE_ARTIFACTS_PROGRESS|HTTP_REQUEST_MAX_RETRIES)")
MOST_S = 240


def blocks(doc: str) -> Iterator[str]:
    """The code of each example of a docstring."""
    lines = inspect.cleandoc(doc).split("\n")
    at = 0
    while at < len(lines):
        found, at = BLOCK.match(lines[at]), at + 1
        if found is None:
            continue
        body: list[str] = []
        while at < len(lines) and "```" not in lines[at] and _is_deeper(lines[at], found):
            body.append(lines[at])
            at += 1
        while body and (not body[0].strip() or body[0].strip().startswith(":")):
            del body[0]
        yield textwrap.dedent("\n".join(body)).strip()


def _is_deeper(line: str, found: re.Match[str]) -> bool:
    return "```" in found[0] or not line.strip() or len(line) - len(line.lstrip()) > len(found[1])


def documented(module: Any) -> Iterator[tuple[str, str]]:
    """(name, docstring) of a module's public functions, classes and methods."""
    for name, held in vars(module).items():
        if name.startswith("_") or not str(getattr(held, "__module__", "")).startswith("mlflow"):
            continue
        if inspect.isfunction(held) or inspect.isclass(held):
            yield name, held.__doc__ or ""
        if inspect.isclass(held):
            for method, inner in vars(held).items():
                if not method.startswith("_"):
                    inner = getattr(inner, "__func__", getattr(inner, "fget", inner))
                    yield f"{name}.{method}", getattr(inner, "__doc__", "") or ""


def examples() -> dict[str, str]:
    """Code by name, each once, without what cannot run here."""
    found: dict[str, str] = {}
    for name in MODULES:
        for owner, doc in documented(importlib.import_module(name)):
            for number, code in enumerate(blocks(doc), 1):
                if code and code not in found.values() and not OTHERS.search(code) and _is_python(code):
                    found[f"{name}.{owner} {number}"] = code
    return found


def _is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


class TooLongError(BaseException):
    """The example did not end in time."""


def _stop(*_: Any) -> None:
    raise TooLongError


def run(name: str, code: str, uri: str) -> tuple[str, str]:
    """(what it printed, the error that it raised)."""
    for variable in [held for held in os.environ if held.startswith("MLFLOW_") and not KEPT.match(held)]:
        del os.environ[variable]
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    printed, error = io.StringIO(), ""
    os.chdir(tempfile.mkdtemp())
    signal.alarm(MOST_S)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            exec(compile(code, name, "exec"), {"__name__": "__main__"})
    except BaseException as raised:  # noqa: BLE001 - an example may raise anything, also SystemExit
        error = f"{type(raised).__name__} {getattr(raised, 'error_code', '')}".strip()
    finally:
        signal.alarm(0)
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.autolog(disable=True)
    return printed.getvalue(), error


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, _stop)
    address = os.environ["MLFLOW_TRACKING_URI"]
    seen = {name: run(name, code, address) for name, code in examples().items()}
    with open(sys.argv[1], "w") as file:
        json.dump(seen, file)
