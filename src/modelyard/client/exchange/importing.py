"""Bringing an MLflow store into the yard: resumable, idempotent, verified by counts and digests."""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import quote

from modelyard.build.tracking.imports import STAMP
from modelyard.client.api import Client, path
from modelyard.client.exchange.files import Files
from modelyard.client.exchange.records import Experiment, Json, LoggedModel, Model, Point, Run, Source, Version
from modelyard.domain.errors import ModelyardError
from modelyard.kit.batches import batches
from modelyard.kit.hashing import digest_json

METRICS, PARAMS, TAGS = 1000, 100, 100
"""Most of each in one batch of the MLflow protocol."""
Progress = Callable[[str], None]


@dataclass
class Report:
    """What an import or export did. `problems` name what did not come across, and why."""

    experiments: int = 0
    runs: int = 0
    runs_present: int = 0
    points: int = 0
    files: int = 0
    files_present: int = 0
    bytes: int = 0
    logged_models: int = 0
    models: int = 0
    versions: int = 0
    versions_present: int = 0
    aliases: int = 0
    problems: list[str] = field(default_factory=list[str])

    def as_json(self) -> Json:
        return asdict(self)


class Importer:
    """Copies what `source` holds through the yard's API. What is there already, from the same content, is skipped."""

    def __init__(self, source: Source, files: Files, client: Client, origin: str, progress: Progress) -> None:
        self._source, self._files, self._client = source, files, client
        self._origin, self._progress = origin, progress
        self._experiments: dict[str, int] = {}
        self._roots: dict[str, str] = {}
        self._versions: dict[tuple[str, int], Version] = {}
        self.report = Report()

    def run(self, only: tuple[str, ...] = ()) -> Report:
        """Import everything, or the experiments of these names and the versions that came from their runs."""
        for experiment in self._source.experiments():
            if only and experiment.name not in only:
                continue
            self._experiment(experiment)
        held = [(model, list(self._source.versions(model))) for model in self._source.models()]
        self._versions = {(item.model, item.version): item for _, versions in held for item in versions}
        for model, versions in held:
            self._model(model, versions, partial=bool(only))
        return self.report

    def _experiment(self, experiment: Experiment) -> None:
        tags = {key: value for key, value in experiment.tags.items() if key != "mlflow.ownerId"}
        made = self._client.call("POST", path("imports", "experiments"), body={"name": experiment.name, "tags": tags})
        self._experiments[experiment.id] = made["id"]
        self.report.experiments += 1
        for count, run in enumerate(self._source.runs(experiment), start=1):
            self._guarded(f"run {run.id}", lambda run=run: self._run(run))
            self._progress(f"{experiment.name}: {count} runs")
        for model in self._source.logged_models(experiment):
            self._guarded(f"logged model {model.id}", lambda model=model: self._logged_model(model))
        if experiment.lifecycle == "deleted":
            self._mlflow("experiments/delete", {"experiment_id": str(made["id"])})

    def _guarded(self, what: str, work: Callable[[], None]) -> None:
        """One record that fails is named and does not end the import."""
        try:
            work()
        except ModelyardError as error:
            self.report.problems.append(f"{what}: {error}")

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
        points = self._values(run)
        self._upload(run.artifact_uri, listed, begun["artifact_root"], held["files"])
        self._verify(run, points, listed)
        end = {"status": run.status, "ended_at": run.ended_at, "lifecycle": run.lifecycle, "stamp": stamp}
        self._client.call("POST", path("imports", "runs", run.id, "end"), body=end)
        self.report.runs += 1

    def _values(self, run: Run) -> dict[str, int]:
        """Write params, tags, histories and inputs; the number of different points of each metric."""
        params = [{"key": key, "value": value} for key, value in run.params.items()]
        tags = [{"key": key, "value": value} for key, value in run.tags.items()]
        for part in batches(params, PARAMS):
            self._mlflow("runs/log-batch", {"run_id": run.id, "params": part})
        for part in batches(tags, TAGS):
            self._mlflow("runs/log-batch", {"run_id": run.id, "tags": part})
        counts: dict[str, set[tuple[Any, ...]]] = {}
        for part in batches(self._source.history(run), METRICS):
            self._mlflow("runs/log-batch", {"run_id": run.id, "metrics": [wire(point) for point in part]})
            for point in part:
                counts.setdefault(point.key, set()).add(_identity(point))
        if run.datasets or run.model_inputs:
            self._mlflow("runs/log-inputs", {"run_id": run.id, "datasets": run.datasets, "models": run.model_inputs})
        if run.model_outputs:
            self._mlflow("runs/outputs", {"run_id": run.id, "models": run.model_outputs})
        self.report.points += sum(len(points) for points in counts.values())
        return {key: len(points) for key, points in counts.items()}

    def _verify(self, run: Run, points: dict[str, int], listed: list[tuple[str, int | None]]) -> None:
        """Compare what the yard holds now with what was read. Raises ModelyardError that names the difference."""
        held = self._client.call("GET", path("imports", "runs", run.id))
        expected: Json = {"params": len(run.params), "points": points, "files": len(listed)}
        found: Json = {"params": held["params"], "points": held["points"], "files": len(held["files"])}
        for noun, value in expected.items():
            if found[noun] != value:
                raise ModelyardError(f"{noun} differ after the copy: read {value}, stored {found[noun]}.")
        if held["tags"] < len(run.tags):
            raise ModelyardError(f"tags differ after the copy: read {len(run.tags)}, stored {held['tags']}.")

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
        listed = self._files.listing(model.artifact_uri)
        missing = [item for item in listed if item[0] not in {_under(made, file) for file in made["files"]}]
        self._upload(model.artifact_uri, missing, made["artifact_root"], made["files"])
        self.report.files_present += len(listed) - len(missing)
        self.report.logged_models += 1

    def _model(self, model: Model, versions: list[Version], *, partial: bool) -> None:
        brought: set[int] = set()
        for version in versions:
            if partial and self._place(version) is None:
                continue
            if not brought:
                self._model_line(model)
            self._guarded(f"{model.name} v{version.version}", lambda version=version: self._version(version))
            brought.add(version.version)
            self._progress(f"{model.name}: {len(brought)} versions")
        if not brought and not partial:
            self._model_line(model)
        for alias, number in model.aliases.items():
            if number in brought:
                self._guarded(f"alias {alias}", lambda alias=alias, number=number: self._alias(model, alias, number))

    def _alias(self, model: Model, alias: str, number: int) -> None:
        self._client.call("PUT", path("models", model.name, "aliases", alias), body={"version": number})
        self.report.aliases += 1

    def _model_line(self, model: Model) -> None:
        body = {"name": model.name, "description": model.description, "tags": model.tags}
        self._client.call("POST", path("imports", "models"), body=body)
        self.report.models += 1

    def _version(self, version: Version) -> None:
        place = self._place(version)
        if place is None:
            raise ModelyardError(f"its files ({version.source}) belong to no run or logged model that was imported.")
        body = {
            "number": version.version,
            "source": place,
            "run_id": version.run_id,
            "model_id": version.model_id if place.startswith("models:/") else None,
            "description": version.description,
            "tags": version.tags,
            "stage": version.stage,
            "user": version.user,
            "created_at": version.created_at,
        }
        made = self._client.call("POST", path("imports", "models", version.model, "versions"), body=body)
        if made["present"]:
            self.report.versions_present += 1
        else:
            self.report.versions += 1

    def _place(self, version: Version) -> str | None:
        """A version's source in the yard's words: models:/m-..., or runs:/<id>/path."""
        source = version.source.rstrip("/")
        known = set(self._roots.values())
        if version.model_id and f"models:/{version.model_id}" in known:
            return f"models:/{version.model_id}"
        if source.startswith("models:/"):
            name, _, number = source.removeprefix("models:/").rpartition("/")
            copied = self._versions.get((name, int(number))) if number.isdigit() else None
            return self._place(copied) if copied is not None else None
        if source.startswith("runs:/"):
            return source if source.split("/")[1] and "/".join(source.split("/")[:2]) in known else None
        bare = source.removeprefix("file://")
        for root, place in self._roots.items():
            for form in (source, bare):
                if form == root or form.startswith(root + "/"):
                    return place + form[len(root) :]
        return self._by_run(version, bare)

    def _by_run(self, version: Version, source: str) -> str | None:
        """The store was moved since: the part after `<run id>/artifacts` still tells."""
        place = f"runs:/{version.run_id}"
        _, found, rest = source.partition(f"/{version.run_id}/artifacts")
        return place + rest if found and place in self._roots.values() else None

    def _mlflow(self, call: str, body: Json) -> Json:
        return self._client.call("POST", f"/api/2.0/mlflow/{call}", body=body)


def _under(made: Json, file: Json) -> str:
    return str(file["path"]).removeprefix(f"{made['artifact_root']}/")


def stamp_of(run: Run, listed: list[tuple[str, int | None]]) -> str:
    """The digest of all that shows whether a run changed since it was imported."""
    marks = {key: repr(value) for key, value in run.mark.items()}
    info = [run.name, run.status, run.lifecycle, run.started_at, run.ended_at]
    return digest_json([info, run.params, run.tags, marks, listed, run.datasets, run.model_inputs, run.model_outputs])


def wire(point: Point) -> Json:
    value: Any = point.value
    if not math.isfinite(point.value):
        value = "NaN" if math.isnan(point.value) else ("Infinity" if point.value > 0 else "-Infinity")
    return {"key": point.key, "value": value, "timestamp": point.time, "step": point.step}


def _identity(point: Point) -> tuple[Any, ...]:
    return (point.time, point.step, "NaN" if math.isnan(point.value) else point.value)
