"""Finding a project's pipeline and turning text into its parameters."""

import sys
import types
import typing
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from modelyard.build.pipelines.binding import Unknown, hints
from modelyard.build.pipelines.failures import explain
from modelyard.build.pipelines.freshness import FreshLoader, open_project
from modelyard.build.pipelines.graph import Pipeline
from modelyard.domain.errors import Invalid, ModelyardError, NotFound


def load_module(project: Path, file: str, name: str | None = None) -> types.ModuleType:
    """The project's module `file`, such as `pipeline.py`; its folder is importable. Raises NotFound, StepFailed.

    name: the module's dotted name, where it is one inside a package.
    """
    path = (project / file).resolve()
    if not path.is_file():
        known = ", ".join(sorted(found.name for found in project.glob("*.py"))) or "none"
        raise NotFound(f"There is no file {file!r} in {project}.", remedy=f"Python files there: {known}.")
    name = name or path.stem
    open_project(project)
    loaded = sys.modules.get(name)
    if loaded is not None and Path(getattr(loaded, "__file__", "") or "").resolve() == path:
        return loaded
    if "." in name:
        return import_module(name)
    loader = FreshLoader(name, str(path))
    module = types.ModuleType(name)
    module.__spec__, module.__file__ = ModuleSpec(name, loader, origin=str(path)), str(path)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, ModelyardError) or not isinstance(error, Exception):
            raise
        raise explain(f"Loading {file}", error) from error
    return module


def load_pipeline(project: Path, reference: str) -> tuple[str, Pipeline[..., Any]]:
    """(file, pipeline) of `pipeline.py:train_delay`. Raises Invalid, NotFound that lists what there is."""
    file, colon, name = reference.partition(":")
    if not colon or not name:
        raise Invalid(f"{reference!r} does not name a pipeline.", remedy="Write FILE.py:PIPELINE.")
    module = load_module(project, file)
    found = getattr(module, name, None)
    if not isinstance(found, Pipeline):
        known = ", ".join(key for key, value in vars(module).items() if isinstance(value, Pipeline)) or "none"
        raise NotFound(f"{file} has no pipeline {name!r}.", remedy=f"Its pipelines: {known}.")
    return file, found


def coerce(pipeline: Pipeline[..., Any], given: dict[str, str]) -> dict[str, Any]:
    """Parameters from the command line as the pipeline's annotations want them. Raises Invalid."""
    annotated = hints(pipeline.function)
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in pipeline.parameters.names:
            known = ", ".join(pipeline.parameters.names) or "none"
            raise Invalid(f"Pipeline {pipeline.name!r} has no parameter {name!r}.", remedy=f"It has: {known}.")
        default = pipeline.parameters.defaults.get(name)
        guessed: Any = str if default is None else type(default)
        kind = annotated.get(name, guessed)
        values[name] = _convert(name, text, guessed if kind is Unknown else kind)
    return values


def _convert(name: str, text: str, kind: Any) -> Any:
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin in (tuple, list):
        return _convert_items(name, text, origin, arguments)
    if origin is typing.Literal:
        options = {str(option): option for option in arguments}
        if text not in options:
            raise Invalid(f"Parameter {name}={text!r} is not one of {', '.join(options)}.")
        return options[text]
    if type(None) in arguments:
        rest = [option for option in arguments if option is not type(None)]
        return None if text.lower() in ("none", "") else _convert(name, text, rest[0])
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise Invalid(f"Parameter {name}={text!r} is not true or false.")
        return text.lower() in ("true", "1")
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise Invalid(f"Parameter {name}={text!r} is not a number ({kind.__name__}).") from None
    return text


def _convert_items(name: str, text: str, origin: Any, arguments: tuple[Any, ...]) -> Any:
    parts = [part.strip() for part in text.split(",")]
    if origin is tuple and arguments and Ellipsis not in arguments:
        if len(parts) != len(arguments):
            raise Invalid(f"Parameter {name}={text!r} has {len(parts)} values; it takes {len(arguments)}.")
        return tuple(_convert(name, part, kind) for part, kind in zip(parts, arguments, strict=True))
    inner = arguments[0] if arguments else str
    values = [_convert(name, part, inner) for part in parts]
    return tuple(values) if origin is tuple else values
