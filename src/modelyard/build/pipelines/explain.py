"""Why a step ran or did not, and what a run would do now."""

from datetime import datetime
from pathlib import Path

from modelyard.build.pipelines.cache import Cache, Result
from modelyard.build.pipelines.environment import Environment
from modelyard.build.pipelines.execution import place
from modelyard.build.pipelines.fingerprint import Fingerprints
from modelyard.build.pipelines.keys import Keys, Last
from modelyard.build.pipelines.nodes import STEP, Graph, Node
from modelyard.build.pipelines.step_environments import StepEnvironments
from modelyard.domain.errors import NotFound


def explain_step(graph: Graph, name: str, project: Path, home: Path) -> list[str]:
    """Lines that say how the step's last run here came about, and what a run now would do. Raises NotFound."""
    if name not in {node.name for node in graph.nodes}:
        known = ", ".join(node.name for node in graph.nodes)
        raise NotFound(f"There is no step {name!r}.", remedy=f"Steps: {known}.")
    cache, last = Cache(home / "cache"), Last(home / "cache" / "last", graph.pipeline)
    before = last.state(name)
    lines = [f"{name}: never ran here"]
    if before is not None:
        at = datetime.fromtimestamp(before["at"] / 1000).strftime("%Y-%m-%d %H:%M:%S")
        lines = [f"{name}: {before['state']} at {at}, because {before['reason']}"]
    return [*lines, f"now: {_now(graph, name, cache, last, project, home)}"]


def _now(graph: Graph, name: str, cache: Cache, last: Last, project: Path, home: Path) -> str:
    environment = Environment(home / "cache" / "environment.json")
    keys = Keys(Fingerprints(project, environment.version), cache, StepEnvironments(project, home).digest)
    held: dict[str, Result] = {}
    for node in graph.nodes:
        unknown = [parent.name for parent in node.parents if parent.name not in held]
        if node.name != name and (node.kind != STEP or unknown):
            continue
        if unknown:
            return f"it depends on {unknown[0]}, which runs first and may give the same output as before"
        if node.kind != STEP:
            return f"a {node.kind} runs each time"
        found, words = _judge(node, keys, cache, last, held)
        if node.name == name:
            return words
        if found is not None:
            held[node.name] = found
    return "it is not reached"


def _judge(node: Node, keys: Keys, cache: Cache, last: Last, held: dict[str, Result]) -> tuple[Result | None, str]:
    key = keys.of(node, {name: place(value, held) for name, value in node.arguments.items()})
    if not getattr(node.step, "cache", True):
        return None, "it runs, because it is declared with cache=False"
    found = cache.find(key.text)
    if found is not None:
        return found, "it is taken from the cache: code, params, inputs, libraries are those of a result there"
    return None, f"it runs, because {last.reason(node.name, key, keys.codes)}"
