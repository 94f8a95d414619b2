"""Bringing an MLflow store into the yard: resumable, idempotent, verified by counts and digests."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import quote

from modelyard.build.tracking.imports import STAMP, Curve, curve_of
from modelyard.client.api import Client, path
from modelyard.client.exchange.files import Files
from modelyard.client.exchange.importing_models import ModelImporter
from modelyard.client.exchange.records import Experiment, Json, LoggedModel, ModelPoint, Run, Source
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
from modelyard.domain.errors import ModelyardError
from modelyard.kit.batches import batches


class Importer:
    """Copies what `source` holds through the yard's API. What is there already, from the same content, is skipped."""

    def __init__(self, source: Source, files: Files, client: Client, origin: str, progress: Progress) -> None:
        self._source, self._files, self._client = source, files, client
        self._origin, self._progress = origin, progress
        self._experiments: dict[str, int] = {}
        self._roots: dict[str, str] = {}
        self._about_models: dict[str, list[ModelPoint]] = {}
        self.report = Report()

    def run(self, only: tuple[str, ...] = ()) -> Report:
        """Import everything, or the experiments of these names and the versions that came from their runs."""
        for experiment in self._source.experiments():
            if only and experiment.name not in only:
                continue
            self._experiment(experiment)
        for model_id, points in self._about_models.items():
            self.report.guarded(f"metrics of {model_id}", lambda m=model_id, p=points: self._model_points(m, p))
        models = ModelImporter(self._source, self._client, self._roots, self.report, self._progress)
        models.run(partial=bool(only))
        return self.report

    def _experiment(self, experiment: Experiment) -> None:
        tags = {key: value for key, value in experiment.tags.items() if key != "mlflow.ownerId"}
        made = self._client.call("POST", path("imports", "experiments"), body={"name": experiment.name, "tags": tags})
        self._experiments[experiment.id] = made["id"]
        self.report.experiments += 1
        for count, run in enumerate(self._source.runs(experiment), start=1):
            self.report.guarded(f"run {run.id}", lambda run=run: self._run(run))
            self._progress(f"{experiment.name}: {count} runs")
        for model in self._source.logged_models(experiment):
            self.report.guarded(f"logged model {model.id}", lambda model=model: self._logged_model(model))
        if experiment.lifecycle == "deleted":
            self._mlflow("experiments/delete", {"experiment_id": str(made["id"])})

    def _run(self, run: Run) -> None:
        run = replace(run, tags={key: value for key, value in run.tags.items() if key != STAMP})
        self._roots[run.artifact_uri.rstrip("/")] = f"runs:/{run.id}"
        listed = self._files.listing(run.artifact_uri) if run.artifact_uri else []
        stamp = stamp_of(run, listed)
        body = {
            "id": run.id,
            "experiment_id": self._experiments[run.experiment],
            "name": run.name,
            "user": run.user,
            "started_at": run.started_at,
            "origin": self._origin,
            "stamp": stamp,
        }
        begun = self._client.call("POST", path("imports", "runs"), body=body)
        if begun["present"]:
            self.report.runs_present += 1
            return
        held = self._client.call("GET", path("imports", "runs", run.id))
        curves = self._values(run)
        self._upload(run.artifact_uri, listed, begun["artifact_root"], held["files"])
        self._verify(run, curves, listed)
        end = {"status": run.status, "ended_at": run.ended_at, "lifecycle": run.lifecycle, "stamp": stamp}
        self._client.call("POST", path("imports", "runs", run.id, "end"), body=end)
        self.report.runs += 1

    def _values(self, run: Run) -> dict[str, Curve]:
        """Write params, tags, histories and inputs; the curve of each metric, as it was read."""
        params = [{"key": key, "value": value} for key, value in run.params.items()]
        tags = [{"key": key, "value": value} for key, value in run.tags.items()]
        for part in batches(params, PARAMS):
            self._mlflow("runs/log-batch", {"run_id": run.id, "params": part})
        for part in batches(tags, TAGS):
            self._mlflow("runs/log-batch", {"run_id": run.id, "tags": part})
        read: dict[str, list[tuple[int, int, float]]] = {}
        for part in batches(self._source.history(run), METRICS):
            self._mlflow("runs/log-batch", {"run_id": run.id, "metrics": [wire(point) for point in part]})
            for point in part:
                read.setdefault(point.key, []).append((point.time, point.step, point.value))
        if run.datasets or run.model_inputs:
            self._mlflow("runs/log-inputs", {"run_id": run.id, "datasets": run.datasets, "models": run.model_inputs})
        if run.model_outputs:
            self._mlflow("runs/outputs", {"run_id": run.id, "models": run.model_outputs})
        curves = {key: curve_of(points) for key, points in read.items()}
        self.report.points += sum(curve.count for curve in curves.values())
        return curves

    def _verify(self, run: Run, curves: dict[str, Curve], listed: list[tuple[str, int | None]]) -> None:
        """Compare what the yard holds now with what was read. Raises ModelyardError that names the difference.

        Tags may have been added here meanwhile. Each file's digest was compared when it was written.
        """
        held = self._client.call("GET", path("imports", "runs", run.id))
        check_same("params", run.params, held["params"])
        check_same("tags", run.tags, {key: held["tags"].get(key) for key in run.tags})
        check_same("metrics", {key: asdict(curve) for key, curve in curves.items()}, held["curves"])
        check_same("files", {"count": len(listed)}, {"count": len(held["files"])})

    def _upload(self, uri: str, listed: list[tuple[str, int | None]], root: str, held: list[Json]) -> None:
        """Copy files that are not there yet; each is hashed on the way and compared with what was stored."""
        present = {file["path"].removeprefix(root + "/"): file for file in held}
        for name, size in listed:
            known = present.get(name)
            if known is not None and size == known["size"]:
                self.report.files_present += 1
                continue
            digest = hashlib.sha256()
            count = 0

            def hashed(name: str = name, digest: Any = digest) -> Iterator[bytes]:
                nonlocal count
                for chunk in self._files.read(uri, name):
                    digest.update(chunk)
                    count += len(chunk)
                    yield chunk

            stored = self._client.upload("PUT", f"/api/v1/artifacts/{quote(f'{root}/{name}')}", hashed())
            if stored["digest"] != digest.hexdigest() or (size is not None and count != size):
                raise ModelyardError(f"{name} was damaged on the way.", remedy="Import again.")
            self.report.files += 1
            self.report.bytes += count

    def _logged_model(self, model: LoggedModel) -> None:
        self._roots[model.artifact_uri.rstrip("/")] = f"models:/{model.id}"
        body = {
            **{name: getattr(model, name) for name in ("id", "name", "run_id", "status", "model_type", "params")},
            "tags": model.tags,
            "created_at": model.created_at,
            "updated_at": model.updated_at,
            "experiment_id": self._experiments[model.experiment],
        }
        made = self._client.call("POST", path("imports", "logged-models"), body=body)
        if model.points:
            self._about_models[model.id] = model.points
        listed = self._files.listing(model.artifact_uri)
        missing = [item for item in listed if item[0] not in {_under(made, file) for file in made["files"]}]
        self._upload(model.artifact_uri, missing, made["artifact_root"], made["files"])
        self.report.files_present += len(listed) - len(missing)
        self.report.logged_models += 1

    def _model_points(self, model_id: str, points: list[ModelPoint]) -> None:
        """What runs logged about a model, which may be runs of any experiment, so all have to be here."""
        here = set(self._roots.values())
        known = [{"run_id": held.run_id, **model_wire(held)} for held in points if f"runs:/{held.run_id}" in here]
        stored = 0
        for part in batches(known, METRICS):
            stored = self._client.call("POST", path("imports", "logged-models", model_id, "points"), body=part)[
                "points"
            ]
        if stored < len(known):
            raise ModelyardError(f"metrics differ after the copy: read {len(known)}, stored {stored}.")

    def _mlflow(self, call: str, body: Json) -> Json:
        return self._client.call("POST", f"/api/2.0/mlflow/{call}", body=body)


def _under(made: Json, file: Json) -> str:
    return str(file["path"]).removeprefix(f"{made['artifact_root']}/")
