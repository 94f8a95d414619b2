"""Taking what the yard holds back into an MLflow server: the way out is as complete as the way in."""

from dataclasses import asdict, dataclass

from modelyard.build.tracking.imports import Curve, curve_of
from modelyard.client.exchange.exporting_models import ModelExporter
from modelyard.client.exchange.files import Files
from modelyard.client.exchange.placing import Placing
from modelyard.client.exchange.records import Experiment, Json, LoggedModel, ModelPoint, Point, Run, Source
from modelyard.client.exchange.reporting import (
    METRICS,
    PARAMS,
    TAGS,
    Progress,
    Report,
    check_same,
    model_wire,
    stamp_of,
    wire,
)
from modelyard.client.exchange.rest import MlflowRest, mapping, point_of
from modelyard.domain.errors import NotFound
from modelyard.kit.batches import batches

RUN_TAG, MODEL_TAG, STAMP_TAG = "modelyard.run_id", "modelyard.model_id", "modelyard.exported"
"""MLflow gives ids of its own: these tags name ours, so that an export can be repeated."""
OURS = ("modelyard.imported", RUN_TAG, STAMP_TAG)
PARENT_TAG = "mlflow.parentRunId"


@dataclass(frozen=True)
class Opened:
    """A run that was written, and waits for the models of its experiment before it is ended."""

    run: Run
    own: str
    curves: dict[str, Curve]
    stamp: str


class Exporter:
    """Copies what `source` (the yard, by the MLflow protocol) holds into `target`. What is there is skipped."""

    def __init__(self, source: Source, files: Files, target: MlflowRest, progress: Progress) -> None:
        self._source, self._files, self._target, self._progress = source, files, target, progress
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, Json] = {}
        self._models: dict[str, Json] = {}
        self._about: dict[str, list[tuple[str, ModelPoint]]] = {}
        self._opened: list[Opened] = []
        self.report = Report()
        self._placing = Placing(files, target, self.report)

    def run(self, only: tuple[str, ...] = ()) -> Report:
        """Export everything, or the experiments of these names and the versions that came from their runs."""
        wanted = [item for item in self._source.experiments() if not only or item.name in only]
        held = {item.id: list(self._source.logged_models(item)) for item in wanted}
        for models in held.values():
            for model in models:
                for point in model.points:
                    self._about.setdefault(point.run_id, []).append((model.id, point))
        for experiment in wanted:
            self._experiment(experiment, held[experiment.id])
        for opened in self._opened:
            self.report.guarded(f"end of run {opened.run.id}", lambda opened=opened: self._end(opened))
        for experiment in wanted:
            if experiment.lifecycle == "deleted":
                self._target.post("experiments/delete", {"experiment_id": self._experiments[experiment.id]})
        models = ModelExporter(self._source, self._target, self._runs, self._models, self.report, self._progress)
        models.run(partial=bool(only))
        return self.report

    def _experiment(self, experiment: Experiment, models: list[LoggedModel]) -> None:
        made = self._ensure_experiment(experiment)
        self._experiments[experiment.id] = made
        self.report.experiments += 1
        for count, run in enumerate(self._source.runs(experiment), start=1):
            self.report.guarded(f"run {run.id}", lambda run=run: self._run(run))
            self._progress(f"{experiment.name}: {count} runs")
        there: dict[str, Json] = {}
        if models:
            for item in self._target.pages("logged-models/search", "models", {"experiment_ids": [made]}, post=True):
                there[mapping(item["info"].get("tags")).get(MODEL_TAG, "")] = item["info"]
        for model in models:
            self.report.guarded(f"logged model {model.id}", lambda model=model: self._logged_model(model, there))

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
        curves = self._values(run, own)
        self._placing.upload(run.artifact_uri, listed, info["artifact_uri"])
        self._opened.append(Opened(run, own, curves, stamp))

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

    def _values(self, run: Run, own: str) -> dict[str, Curve]:
        """Write params, tags, histories and datasets; the curve of each metric, as it was read.

        Points about logged models wait for these, and points that are there already are left out.
        """
        params = [{"key": key, "value": value} for key, value in run.params.items()]
        tags = [{"key": key, "value": value} for key, value in run.tags.items() if key not in OURS]
        for part in batches(params, PARAMS):
            self._target.post("runs/log-batch", {"run_id": own, "params": part})
        for part in batches(tags, TAGS):
            self._target.post("runs/log-batch", {"run_id": own, "tags": part})
        skipped = {_identity(held.point) for _, held in self._about.get(run.id, [])}
        skipped |= {_identity(point) for key in self._keys(own) for point in self._history(own, key)}
        read: dict[str, list[tuple[int, int, float]]] = {}
        for part in batches(self._source.history(run), METRICS):
            fresh = [wire(point) for point in part if _identity(point) not in skipped]
            if fresh:
                self._target.post("runs/log-batch", {"run_id": own, "metrics": fresh})
            for point in part:
                read.setdefault(point.key, []).append((point.time, point.step, point.value))
        if run.datasets:
            self._target.post("runs/log-inputs", {"run_id": own, "datasets": run.datasets})
        curves = {key: curve_of(points) for key, points in read.items()}
        self.report.points += sum(curve.count for curve in curves.values())
        return curves

    def _keys(self, own: str) -> list[str]:
        return [item["key"] for item in self._target.get("runs/get", run_id=own)["run"]["data"].get("metrics", [])]

    def _history(self, own: str, key: str) -> list[Point]:
        query = {"run_id": own, "metric_key": key, "max_results": 25_000}
        pages = self._target.pages("metrics/get-history", "metrics", query, post=False)
        return [point_of(item, stored=True) for item in pages]

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
        self._placing.upload(model.artifact_uri, self._files.listing(model.artifact_uri), info["artifact_uri"])
        if model.status != info.get("status"):
            own = info["model_id"]
            self._target.post(f"logged-models/{own}", {"model_id": own, "status": model.status}, method="PATCH")
        self.report.logged_models += 1

    def _end(self, opened: Opened) -> None:
        """Name runs and models by their new ids; compare; then the run's end, and its stamp."""
        run, own = opened.run, opened.own
        if inputs := self._renamed(run.model_inputs):
            self._target.post("runs/log-inputs", {"run_id": own, "models": inputs})
        if outputs := self._renamed(run.model_outputs):
            self._target.post("runs/outputs", {"run_id": own, "models": outputs})
        self._about_models(run.id, own)
        parent = self._runs.get(run.tags.get(PARENT_TAG, ""))
        if parent is not None:
            self._target.post("runs/set-tag", {"run_id": own, "key": PARENT_TAG, "value": parent["run_id"]})
        self._verify(opened)
        ended = {"end_time": run.ended_at} if run.ended_at else {}
        self._target.post("runs/update", {"run_id": own, "status": run.status, "run_name": run.name, **ended})
        self._target.post("runs/set-tag", {"run_id": own, "key": STAMP_TAG, "value": opened.stamp})
        if run.lifecycle == "deleted":
            self._target.post("runs/delete", {"run_id": own})
        self.report.runs += 1

    def _renamed(self, items: list[Json]) -> list[Json]:
        known = [item for item in items if item["model_id"] in self._models]
        return [{**item, "model_id": self._models[item["model_id"]]["model_id"]} for item in known]

    def _about_models(self, run_id: str, own: str) -> None:
        """Write what the run logged about models, unless it is there."""
        waiting = self._about.get(run_id, [])
        there = {_identity(point) for key in {at.point.key for _, at in waiting} for point in self._history(own, key)}
        fresh = [
            {**model_wire(held), "model_id": self._models[model_id]["model_id"]}
            for model_id, held in waiting
            if model_id in self._models and _identity(held.point) not in there
        ]
        for part in batches(fresh, METRICS):
            self._target.post("runs/log-batch", {"run_id": own, "metrics": part})

    def _verify(self, opened: Opened) -> None:
        """Read back. Raises ModelyardError that names the difference. Files were compared when they were written."""
        data = self._target.get("runs/get", run_id=opened.own)["run"]["data"]
        check_same("params", opened.run.params, mapping(data.get("params")))
        found: Json = {}
        for key in opened.curves:
            points = self._history(opened.own, key)
            found[key] = asdict(curve_of((point.time, point.step, point.value) for point in points))
        check_same("metrics", {key: asdict(curve) for key, curve in opened.curves.items()}, found)


def _identity(point: Point) -> tuple[str, int, int, str]:
    return (point.key, point.time, point.step, repr(point.value))
