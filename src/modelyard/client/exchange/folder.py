"""MLflow's file store: a `mlruns` folder of YAML files and one small file for each value."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelyard.client.exchange.database import MODEL_STATUS, model_of
from modelyard.client.exchange.records import Experiment, Json, LoggedModel, Model, ModelPoint, Point, Run, Version
from modelyard.domain.errors import Invalid, MissingExtra

RUN_STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
META = "meta.yaml"


class FolderSource:
    """Reads a `mlruns` folder; its trash holds deleted experiments."""

    def __init__(self, root: Path) -> None:
        if find_spec("yaml") is None:
            raise MissingExtra("pyyaml", "build", "Reading a mlruns folder")
        self._root = root
        if not any((folder / META).exists() for folder in _folders(root)):
            raise Invalid(f"{root} is not a mlruns folder.", remedy="Name the folder that holds 0/meta.yaml.")

    def experiments(self) -> Iterator[Experiment]:
        for folder in (*_folders(self._root), *_folders(self._root / ".trash")):
            if folder.name == "models" or not (folder / META).exists():
                continue
            meta = _yaml(folder / META)
            lifecycle = "deleted" if folder.parent.name == ".trash" else str(meta.get("lifecycle_stage", "active"))
            yield Experiment(folder.name, str(meta["name"]), lifecycle, _values(folder / "tags"))

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        for folder in _folders(self._experiment(experiment)):
            if not (folder / META).exists() or folder.name in ("models", "datasets", "tags"):
                continue
            meta, tags = _yaml(folder / META), _values(folder / "tags")
            yield Run(
                id=folder.name,
                experiment=experiment.id,
                name=tags.get("mlflow.runName") or str(meta.get("run_name") or ""),
                user=str(meta.get("user_id") or ""),
                status=RUN_STATUS.get(meta.get("status") or 0, "FINISHED"),
                lifecycle=str(meta.get("lifecycle_stage", "active")),
                started_at=int(meta.get("start_time") or 0),
                ended_at=int(meta["end_time"]) if meta.get("end_time") else None,
                artifact_uri=_near(folder / "artifacts", str(meta.get("artifact_uri") or "")),
                params=_values(folder / "params"),
                tags=tags,
                datasets=self._datasets(folder),
                model_inputs=_linked(folder / "inputs", "MODEL_INPUT"),
                model_outputs=_linked(folder / "outputs", "MODEL_OUTPUT"),
                mark={name: float(len(lines)) for name, lines in _lines(folder / "metrics")},
            )

    def history(self, run: Run) -> Iterator[Point]:
        for place in (self._root, self._root / ".trash"):
            for key, lines in _lines(place / run.experiment / run.id / "metrics"):
                for line in lines:
                    parts = line.split()
                    yield Point(key, float(parts[1]), int(parts[0]), int(parts[2]) if len(parts) > 2 else 0)

    def logged_models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        for folder in _folders(self._experiment(experiment) / "models"):
            if not (folder / META).exists():
                continue
            meta = _yaml(folder / META)
            if meta.get("lifecycle_stage") == "deleted":
                continue
            yield LoggedModel(
                id=folder.name,
                experiment=experiment.id,
                name=str(meta.get("name") or folder.name),
                run_id=meta.get("source_run_id"),
                artifact_uri=_near(folder / "artifacts", str(meta.get("artifact_location") or "")),
                status=MODEL_STATUS.get(meta.get("status") or 0, "LOGGED_MODEL_READY"),
                model_type=str(meta.get("model_type") or ""),
                created_at=int(meta.get("creation_timestamp") or 0),
                updated_at=int(meta.get("last_updated_timestamp") or 0),
                params=_values(folder / "params"),
                tags=_values(folder / "tags"),
                points=[_model_point(key, line) for key, lines in _lines(folder / "metrics") for line in lines],
            )

    def models(self) -> Iterator[Model]:
        for folder in _folders(self._root / "models"):
            if (folder / META).exists():
                meta = _yaml(folder / META)
                aliases = {alias: int(number) for alias, number in _values(folder / "aliases").items()}
                yield Model(str(meta["name"]), str(meta.get("description") or ""), _values(folder / "tags"), aliases)

    def versions(self, model: Model) -> Iterator[Version]:
        folders = [item for item in _folders(self._root / "models" / model.name) if item.name.startswith("version-")]
        for folder in sorted(folders, key=lambda item: int(item.name.removeprefix("version-"))):
            meta = _yaml(folder / META)
            if meta.get("current_stage") == "Deleted_Internal":
                continue
            source = str(meta.get("source") or "")
            yield Version(
                model=model.name,
                version=int(meta["version"]),
                source=source,
                run_id=meta.get("run_id") or None,
                model_id=meta.get("model_id") or model_of(source),
                description=str(meta.get("description") or ""),
                user=str(meta.get("user_id") or ""),
                stage=str(meta.get("current_stage") or "None"),
                created_at=int(meta.get("creation_timestamp") or 0),
                updated_at=int(meta.get("last_updated_timestamp") or 0),
                tags=_values(folder / "tags"),
            )

    def close(self) -> None:
        return None

    def _experiment(self, experiment: Experiment) -> Path:
        kept = self._root / experiment.id
        return kept if kept.exists() else self._root / ".trash" / experiment.id

    def _datasets(self, run: Path) -> list[Json]:
        found: list[Json] = []
        for folder in _folders(run / "inputs"):
            meta = _yaml(folder / META)
            if meta.get("source_type") != "DATASET":
                continue
            held = run.parent / "datasets" / str(meta["source_id"]) / META
            if held.exists():
                dataset = _yaml(held)
                keys = ("name", "digest", "source_type", "source", "schema", "profile")
                tags = [{"key": key, "value": str(value)} for key, value in (meta.get("tags") or {}).items()]
                found.append({"tags": tags, "dataset": {key: str(dataset.get(key) or "") for key in keys}})
        return found


def _folders(root: Path) -> list[Path]:
    return sorted(item for item in root.iterdir() if item.is_dir()) if root.is_dir() else []


def _yaml(file: Path) -> dict[str, Any]:
    import yaml  # late: only this source needs it

    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise Invalid(f"{file} is not YAML: {str(error).splitlines()[0]}.", remedy="Mend or remove it.") from error
    if not isinstance(value, dict):
        raise Invalid(f"{file} is empty or damaged.", remedy="Mend or remove it.")
    return value


def _values(root: Path) -> dict[str, str]:
    """A folder of values: each file's path is the key, its text the value."""
    if not root.is_dir():
        return {}
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8").rstrip("\n") for file in files}


def _lines(root: Path) -> Iterator[tuple[str, list[str]]]:
    if root.is_dir():
        for file in sorted(item for item in root.rglob("*") if item.is_file()):
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
            yield file.relative_to(root).as_posix(), lines


def _model_point(key: str, line: str) -> ModelPoint:
    """A line of a logged model's metric: time, value, step, run, and a dataset where there is one."""
    time, value, step, run_id, *dataset = line.split()
    digest = dataset.pop() if len(dataset) > 1 else None
    return ModelPoint(run_id, Point(key, float(value), int(time), int(step)), " ".join(dataset) or None, digest)


def _linked(root: Path, kind: str) -> list[Json]:
    found: list[Json] = []
    for folder in _folders(root):
        meta = _yaml(folder / META)
        if meta.get("destination_type") == kind:
            step = (meta.get("tags") or {}).get("step") or meta.get("step") or 0
            found.append({"model_id": str(meta["destination_id"]), "step": str(step)})
    return found


def _near(beside: Path, written: str) -> str:
    """Where artifacts are: beside the metadata when they are there (a copied folder), else where it was written."""
    return str(beside) if beside.is_dir() else written
