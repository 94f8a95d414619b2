"""Taking what the yard holds back into an MLflow server: the way out is as complete as the way in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from modelyard.client.exchange.files import PROXIED, Files
from modelyard.client.exchange.importing import METRICS, PARAMS, TAGS, Progress, Report, stamp_of, wire
from modelyard.client.exchange.records import Experiment, Json, LoggedModel, Model, Run, Source, Version
from modelyard.client.exchange.rest import MlflowRest, mapping
from modelyard.domain.errors import ModelyardError, NotFound
from modelyard.kit.batches import batches
from modelyard.kit.files import atomic_write

RUN_TAG, MODEL_TAG, STAMP_TAG = "modelyard.run_id", "modelyard.model_id", "modelyard.exported"
"""MLflow gives ids of its own: these tags name ours, so that an export can be repeated."""
OURS = ("modelyard.imported", RUN_TAG, STAMP_TAG)


class Exporter:
    """Copies what `source` (the yard, by the MLflow protocol) holds into `target`. What is there is skipped."""

    def __init__(self, source: Source, files: Files, target: MlflowRest, progress: Progress) -> None:
        self._source, self._files, self._target, self._progress = source, files, target, progress
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, Json] = {}
        self._open: list[tuple[Run, str]] = []
        self._models: dict[str, Json] = {}
        self.report = Report()

    def run(self, only: tuple[str, ...] = ()) -> Report:
        """Export everything, or the experiments of these names and the versions that came from their runs."""
        for experiment in self._source.experiments():
            if not only or experiment.name in only:
                self._experiment(experiment)
        for model in self._source.models():
            self._guarded(f"model {model.name}", lambda model=model: self._model(model, partial=bool(only)))
        return self.report

    def _guarded(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except ModelyardError as error:
            self.report.problems.append(f"{what}: {error}")

    def _experiment(self, experiment: Experiment) -> None:
        made = self._ensure_experiment(experiment)
        self._experiments[experiment.id] = made
        self.report.experiments += 1
        self._open = []
        for count, run in enumerate(self._source.runs(experiment), start=1):
            self._guarded(f"run {run.id}", lambda run=run: self._run(run))
            self._progress(f"{experiment.name}: {count} runs")
        there = {}
        for item in self._target.pages("logged-models/search", "models", {"experiment_ids": [made]}, post=True):
            there[mapping(item["info"].get("tags")).get(MODEL_TAG, "")] = item["info"]
        for model in self._source.logged_models(experiment):
            self._guarded(f"logged model {model.id}", lambda model=model: self._logged_model(model, there))
        for run, stamp in self._open:
            self._guarded(f"end of run {run.id}", lambda run=run, stamp=stamp: self._end(run, stamp))
        if experiment.lifecycle == "deleted":
            self._target.post("experiments/delete", {"experiment_id": made})

    def _ensure_experiment(self, experiment: Experiment) -> str:
        try:
            found = self._target.get("experiments/get-by-name", experiment_name=experiment.name)["experiment"]
        except NotFound:
            made: str = self._target.post("experiments/create", {"name": experiment.name})["experiment_id"]
        else:
            made = found["experiment_id"]
            if found.get("lifecycle_stage") == "deleted":
                self._target.post("experiments/restore", {"experiment_id": made})
        for key, value in experiment.tags.items():
            self._target.post("experiments/set-experiment-tag", {"experiment_id": made, "key": key, "value": value})
        return made

    def _run(self, run: Run) -> None:
        listed = self._files.listing(run.artifact_uri)
        stamp = stamp_of(run, listed)
        info, tags = self._ensure_run(run)
        self._runs[run.id] = info
        if tags.get(STAMP_TAG) == stamp:
            self.report.runs_present += 1
            return
        own: str = info["run_id"]
        if info.get("lifecycle_stage") == "deleted":
            self._target.post("runs/restore", {"run_id": own})
        points = self._values(run, own)
        self._upload(run.artifact_uri, listed, info["artifact_uri"])
        self._verify(run, own, points, listed, info["artifact_uri"])
        self._open.append((run, stamp))

    def _ensure_run(self, run: Run) -> tuple[Json, dict[str, str]]:
        """(info, tags) of the run over there, made when it is not there."""
        experiment = self._experiments[run.experiment]
        wanted = {"experiment_ids": [experiment], "run_view_type": "ALL", "max_results": 1}
        found = self._target.post("runs/search", {**wanted, "filter": f"tags.`{RUN_TAG}` = '{run.id}'"}).get("runs")
        if found:
            return found[0]["info"], mapping(found[0]["data"].get("tags"))
        body = {
            "experiment_id": experiment,
            "run_name": run.name,
            "user_id": run.user,
            "start_time": run.started_at,
            "tags": [{"key": RUN_TAG, "value": run.id}],
        }
        return self._target.post("runs/create", body)["run"]["info"], {}

    def _values(self, run: Run, own: str) -> dict[str, int]:
        params = [{"key": key, "value": value} for key, value in run.params.items()]
        tags = [{"key": key, "value": value} for key, value in run.tags.items() if key not in OURS]
        for part in batches(params, PARAMS):
            self._target.post("runs/log-batch", {"run_id": own, "params": part})
        for part in batches(tags, TAGS):
            self._target.post("runs/log-batch", {"run_id": own, "tags": part})
        counts: dict[str, int] = {}
        for part in batches(self._source.history(run), METRICS):
            self._target.post("runs/log-batch", {"run_id": own, "metrics": [wire(point) for point in part]})
            for point in part:
                counts[point.key] = counts.get(point.key, 0) + 1
        if run.datasets:
            self._target.post("runs/log-inputs", {"run_id": own, "datasets": run.datasets})
        self.report.points += sum(counts.values())
        return counts

    def _verify(
        self, run: Run, own: str, points: dict[str, int], listed: list[tuple[str, int | None]], uri: str
    ) -> None:
        """Read back. Raises ModelyardError that names the difference."""
        data = self._target.get("runs/get", run_id=own)["run"]["data"]
        if mapping(data.get("params")) != run.params:
            raise ModelyardError("params differ after the copy.")
        for key, count in points.items():
            query = {"run_id": own, "metric_key": key, "max_results": 25_000}
            found = sum(1 for _ in self._target.pages("metrics/get-history", "metrics", query, post=False))
            if found != count:
                raise ModelyardError(f"{key} has {found} points after the copy, {count} before.")
        there = Files(rest=self._target).listing(uri)
        if there != listed:
            raise ModelyardError(f"{len(there)} files after the copy, {len(listed)} before, or their sizes differ.")

    def _upload(self, uri: str, listed: list[tuple[str, int | None]], target: str) -> None:
        present = dict(Files(rest=self._target).listing(target)) if listed else {}
        for name, size in listed:
            if name in present and present[name] == size:
                self.report.files_present += 1
                continue
            self._write(target, name, uri)
            self.report.files += 1
            self.report.bytes += size or 0

    def _write(self, target: str, name: str, uri: str) -> None:
        parts = urlsplit(target)
        if parts.scheme == PROXIED:
            self._target.upload(f"{unquote(parts.path).strip('/')}/{name}", self._files.read(uri, name))
        elif parts.scheme in ("", "file"):
            atomic_write(Path(unquote(parts.path)) / name, b"".join(self._files.read(uri, name)), durable=False)
        else:
            raise ModelyardError(
                f"The MLflow server keeps artifacts at {target} without proxying them.",
                remedy="Start it with --serve-artifacts for the time of the export.",
            )

    def _logged_model(self, model: LoggedModel, there: dict[str, Json]) -> None:
        info = there.get(model.id)
        if info is None:
            body: Json = {
                "experiment_id": self._experiments[model.experiment],
                "name": model.name,
                "model_type": model.model_type,
                "params": [{"key": key, "value": value} for key, value in model.params.items()],
                "tags": [{"key": key, "value": value} for key, value in {**model.tags, MODEL_TAG: model.id}.items()],
            }
            if model.run_id in self._runs:
                body["source_run_id"] = self._runs[model.run_id]["run_id"]
            info = self._target.post("logged-models", body)["model"]["info"]
        self._models[model.id] = info
        self._upload(model.artifact_uri, self._files.listing(model.artifact_uri), info["artifact_uri"])
        if model.status != info.get("status"):
            self._target.post(
                f"logged-models/{info['model_id']}",
                {"model_id": info["model_id"], "status": model.status},
                method="PATCH",
            )
        self.report.logged_models += 1

    def _end(self, run: Run, stamp: str) -> None:
        """Name the models that the run read or wrote by their new ids; then its end, and its stamp."""
        own = self._runs[run.id]["run_id"]

        def renamed(items: list[Json]) -> list[Json]:
            known = [item for item in items if item["model_id"] in self._models]
            return [{**item, "model_id": self._models[item["model_id"]]["model_id"]} for item in known]

        if inputs := renamed(run.model_inputs):
            self._target.post("runs/log-inputs", {"run_id": own, "models": inputs})
        if outputs := renamed(run.model_outputs):
            self._target.post("runs/outputs", {"run_id": own, "models": outputs})
        ended = {"end_time": run.ended_at} if run.ended_at else {}
        self._target.post("runs/update", {"run_id": own, "status": run.status, "run_name": run.name, **ended})
        self._target.post("runs/set-tag", {"run_id": own, "key": STAMP_TAG, "value": stamp})
        if run.lifecycle == "deleted":
            self._target.post("runs/delete", {"run_id": own})
        self.report.runs += 1

    def _model(self, model: Model, *, partial: bool) -> None:
        versions = [item for item in self._source.versions(model) if not partial or self._place(item)]
        if partial and not versions:
            return
        try:
            self._target.get("registered-models/get", name=model.name)
        except NotFound:
            tags = [{"key": key, "value": value} for key, value in model.tags.items()]
            body = {"name": model.name, "description": model.description, "tags": tags}
            self._target.post("registered-models/create", body)
        self.report.models += 1
        next_number = 1
        for version in versions:
            self._guarded(f"{model.name} v{version.version}", lambda v=version, n=next_number: self._version(v, n))
            next_number = version.version + 1
            self._progress(f"{model.name}: v{version.version}")
        for alias, number in model.aliases.items():
            body = {"name": model.name, "alias": alias, "version": str(number)}
            self._guarded(
                f"alias {alias}", lambda body=body: void(self._target.post("registered-models/alias", body))
            )
            self.report.aliases += 1

    def _version(self, version: Version, next_number: int) -> None:
        """A version under its own number: numbers that were deleted here are used up over there, too."""
        try:
            self._target.get("model-versions/get", name=version.model, version=str(version.version))
        except NotFound:
            pass
        else:
            self.report.versions_present += 1
            return
        place = self._place(version)
        if place is None:
            raise ModelyardError(f"its files ({version.source}) belong to no run or logged model that was exported.")
        tags = [{"key": key, "value": value} for key, value in version.tags.items()]
        body: Json = {"name": version.model, "description": version.description, "tags": tags, **place}
        made = self._target.post("model-versions/create", body)["model_version"]
        while int(made["version"]) < version.version:
            gone = {"name": version.model, "version": str(made["version"])}
            self._target.post("model-versions/delete", gone, method="DELETE")
            made = self._target.post("model-versions/create", body)["model_version"]
        if int(made["version"]) != version.version:
            raise ModelyardError(f"it became v{made['version']} over there: the name was in use.")
        if version.stage not in ("", "None"):
            moved = {"name": version.model, "version": str(version.version), "stage": version.stage}
            self._target.post("model-versions/transition-stage", {**moved, "archive_existing_versions": False})
        self.report.versions += 1

    def _place(self, version: Version) -> Json | None:
        """Where a version's files are over there: {source, run_id, model_id}."""
        run = self._runs.get(version.run_id or "")
        place: Json = {"run_id": run["run_id"]} if run else {}
        model = self._models.get(version.model_id or "")
        if model is not None:
            return {**place, "source": f"models:/{model['model_id']}", "model_id": model["model_id"]}
        if run is not None and version.source.startswith("runs:/"):
            inner = version.source.removeprefix("runs:/").partition("/")[2]
            return {**place, "source": f"{run['artifact_uri']}/{inner}"}
        return None


def void(_: Any) -> None:
    return None
