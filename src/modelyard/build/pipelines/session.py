"""Running a pipeline from a reference or a script: with stand-ins for libraries first, for real if anything runs."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard.build.pipelines.graph import Pipeline
from modelyard.build.pipelines.nodes import REGISTER, Graph
from modelyard.build.pipelines.project import coerce, load_pipeline
from modelyard.build.pipelines.runner import PipelineResult, Runner
from modelyard.build.pipelines.scheduler import NotCached
from modelyard.build.pipelines.stubs import Used, stubbed

PROJECT_FILE = "modelyard.toml"
MakeRunner = Callable[[Graph, str, bool], Runner]
"""Makes the runner of (graph, file); the last argument says that it may only take results from the cache."""


def run_reference(folder: Path, reference: str, given: dict[str, str], runner: MakeRunner) -> PipelineResult:
    """Run `pipeline.py:train`: no library is loaded when every result is in the cache."""
    cached = _all_cached(folder, reference, given, runner)
    if cached is not None:
        return cached
    module, pipeline = load_pipeline(folder, reference)
    graph = pipeline.trace(coerce(pipeline, given))
    return runner(graph, module, False).run()


def _all_cached(folder: Path, reference: str, given: dict[str, str], runner: MakeRunner) -> PipelineResult | None:
    """The outcome when all is in the cache; None as soon as something has to run, or a library is really used."""
    try:
        with stubbed():
            module, pipeline = load_pipeline(folder, reference)
        graph = pipeline.trace(coerce(pipeline, given))
        if any(node.kind == REGISTER for node in graph.nodes):
            return None
        return runner(graph, module, True).run()
    except (Used, NotCached):
        return None


def run_pipeline(pipeline: Pipeline[..., Any], params: dict[str, Any]) -> PipelineResult:
    """Run a pipeline of a script that is already loaded; a line a step goes to standard error."""
    file = Path(pipeline.function.__code__.co_filename).resolve()
    folder = next((each for each in file.parents if (each / PROJECT_FILE).exists()), file.parent)
    home = Path(os.environ.get("MODELYARD_HOME") or folder / ".modelyard")

    stream = sys.stderr

    def show(step: str, state: str, seconds: float) -> None:
        if state != "started":
            took = f"{seconds:6.2f} s" if state == "finished" else state
            print(f"  {step:<24} {took}", file=stream)

    return Runner(pipeline.trace(params), folder, file.name, home, progress=show).run()
