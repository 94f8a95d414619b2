"""A pipeline run that changes nothing outside a scratch folder: what it would register is recorded instead.

`python -m modelyard.build.ci.rehearsal` is the process that runs it; `rehearse` starts one and reads its answer.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from modelyard.build.ci.content import content_digest
from modelyard.build.pipelines.cache import Cache
from modelyard.build.pipelines.hub import Place
from modelyard.domain.errors import ModelyardError


@dataclass
class StepNote:
    """One step: how it ended, how long it took, and a digest of what each of its outputs holds."""

    state: str
    seconds: float
    outputs: list[str] = field(default_factory=list[str])


@dataclass
class Rehearsal:
    """What a pipeline did in a fresh process with an empty cache. `error` is None when all went well."""

    pipeline: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    steps: dict[str, StepNote] = field(default_factory=dict[str, StepNote])
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    registered: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """By model: what `yard.register` would have sent."""
    references: dict[str, str] = field(default_factory=dict[str, str])
    """By model: the Parquet file of its reference window."""
    error: str | None = None
    remedy: str = ""
    error_step: str | None = None


class RehearsalHub:
    """The hub of a rehearsal: keeps what would be recorded, and knows the champions that were fetched before.

    champions: by model, a folder with `champion.json` (version, evaluation) and `files/`.
    """

    def __init__(self, folder: Path, cache: Path, champions: dict[str, str]) -> None:
        self._folder, self._cache = folder, Cache(cache)
        self._champions = {model: Path(place) for model, place in champions.items()}
        self._places = 0
        self.steps: dict[str, StepNote] = {}
        self.metrics: dict[str, float] = {}
        self.registered: dict[str, dict[str, Any]] = {}
        self.failed_step: str | None = None

    def start_pipeline_run(
        self, pipeline: str, params: dict[str, Any], code: dict[str, Any], cause: str | None
    ) -> str:
        return "rehearsal"

    def note_step(
        self,
        pipeline_run_id: str,
        step: str,
        state: str,
        key: str,
        seconds: float,
        error: str | None,
        details: dict[str, Any],
    ) -> None:
        self.metrics |= details.get("metrics", {})
        held = self._cache.find(key) if key else None
        outputs = [content_digest(self._cache, each) for each in held.outputs] if held else []
        self.steps[step] = StepNote(state, seconds, outputs)
        if error is not None:
            self.failed_step = step

    def finish_pipeline_run(self, pipeline_run_id: str, error: str | None) -> None:
        return None

    def create_run(
        self,
        experiment: str,
        name: str,
        pipeline_run_id: str,
        params: dict[str, str],
        metrics: dict[str, float],
        tags: dict[str, str],
        datasets: list[dict[str, Any]],
    ) -> Place:
        self.metrics |= metrics
        return self._place()

    def end_run(self, run_id: str, status: str) -> None:
        return None

    def create_logged_model(self, run_id: str, name: str) -> Place:
        return self._place()

    def upload_folder(self, folder: Path, artifact_root: str) -> None:
        shutil.copytree(folder, self._folder / artifact_root, dirs_exist_ok=True)

    def register_version(self, model: str, details: dict[str, Any]) -> dict[str, Any]:
        self.registered[model] = details
        return {"model": model, "version": 0}

    def champion(self, model: str) -> dict[str, Any] | None:
        place = self._champions.get(model)
        if place is None:
            return None
        return {**json.loads((place / "champion.json").read_text()), "files": []}

    def download_version(self, model: str, version: int, files: list[dict[str, Any]], folder: Path) -> None:
        shutil.copytree(self._champions[model] / "files", folder, dirs_exist_ok=True)

    def gated_metrics(self, model: str) -> list[str]:
        return []  # the check of gates says so itself, with every other gate

    def references(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for model, details in self.registered.items():
            path = (details.get("evaluation") or {}).get("reference")
            if path:
                found[model] = str(self._folder / path)
        return found

    def _place(self) -> Place:
        self._places += 1
        return Place(f"rehearsal-{self._places}", f"artifacts/{self._places}")


def rehearse(
    project: Path,
    pipeline: str,
    scratch: Path,
    *,
    sample: float | None = None,
    champions: dict[str, Path] | None = None,
    hash_seed: int = 0,
    timeout_s: float = 1800.0,
) -> Rehearsal:
    """Run a pipeline in a fresh process with an empty cache under `scratch`."""
    scratch.mkdir(parents=True, exist_ok=True)
    asked = {
        "project": str(project),
        "pipeline": pipeline,
        "scratch": str(scratch),
        "sample": sample,
        "champions": {model: str(place) for model, place in (champions or {}).items()},
    }
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "MODELYARD_HOME": str(scratch / "home")}
    command = [sys.executable, "-m", "modelyard.build.ci.rehearsal"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(asked),
            text=True,
            capture_output=True,
            cwd=project,
            env=environment,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        words = f"The run took longer than {timeout_s:g} s and was stopped."
        return Rehearsal(pipeline, seconds=timeout_s, error=words, remedy="Run a smaller sample: --sample 0.01")
    answer = scratch / "answer.json"
    if done.returncode != 0 or not answer.exists():
        words = (done.stderr.strip().splitlines() or ["no message"])[-1]
        error = f"The run died with exit code {done.returncode}: {words}"
        return Rehearsal(pipeline, error=error, remedy=f"Run it by hand: modelyard run {pipeline}")
    return msgspec.json.decode(answer.read_bytes(), type=Rehearsal)


def _run(asked: dict[str, Any]) -> Rehearsal:
    from modelyard.build.pipelines.project import load_pipeline
    from modelyard.build.pipelines.runner import Runner

    project, scratch = Path(asked["project"]), Path(asked["scratch"])
    home = scratch / "home"
    answer = Rehearsal(asked["pipeline"])
    hub = RehearsalHub(scratch, home / "cache", asked["champions"])
    before = os.times()
    try:
        module, found = load_pipeline(project, asked["pipeline"])
        Runner(found.trace({}), project, module, home, hub, sample=asked["sample"]).run()
    except ModelyardError as error:
        answer.error, answer.remedy, answer.error_step = error.message, error.remedy, hub.failed_step
    after = os.times()
    answer.seconds = after.elapsed - before.elapsed
    answer.cpu_seconds = sum(after[:4]) - sum(before[:4])
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    answer.peak_bytes = most * (1 if sys.platform == "darwin" else 1024)
    answer.steps, answer.metrics = hub.steps, hub.metrics
    answer.registered, answer.references = hub.registered, hub.references()
    return answer


def main() -> None:
    asked = json.load(sys.stdin)
    answer = _run(asked)
    (Path(asked["scratch"]) / "answer.json").write_bytes(msgspec.json.encode(answer))


if __name__ == "__main__":
    main()
