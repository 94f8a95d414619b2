"""What an MLflow store holds, as plain records; every kind of store is read into these."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

Json = dict[str, Any]


class Point(NamedTuple):
    """One point of a metric's history; `value` may be NaN or infinite."""

    key: str
    value: float
    time: int
    step: int


@dataclass(frozen=True)
class Experiment:
    id: str
    name: str
    lifecycle: str
    tags: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Run:
    """A run without its metric histories, which are read one run at a time."""

    id: str
    experiment: str
    name: str
    user: str
    status: str
    lifecycle: str
    started_at: int
    ended_at: int | None
    artifact_uri: str
    params: dict[str, str]
    tags: dict[str, str]
    datasets: list[Json] = field(default_factory=list[Json])
    model_inputs: list[Json] = field(default_factory=list[Json])
    model_outputs: list[Json] = field(default_factory=list[Json])
    mark: dict[str, float] = field(default_factory=dict[str, float])
    """A number for each metric that shows whether points were added since: its newest value, or their count."""


class ModelPoint(NamedTuple):
    """A point that a run logged about a logged model, on a dataset where one is named."""

    run_id: str
    point: Point
    dataset_name: str | None
    dataset_digest: str | None


@dataclass(frozen=True)
class LoggedModel:
    id: str
    experiment: str
    name: str
    run_id: str | None
    artifact_uri: str
    status: str
    model_type: str
    created_at: int
    updated_at: int
    params: dict[str, str]
    tags: dict[str, str]
    points: list[ModelPoint] = field(default_factory=list[ModelPoint])


@dataclass(frozen=True)
class Version:
    model: str
    version: int
    source: str
    run_id: str | None
    model_id: str | None
    description: str
    user: str
    stage: str
    created_at: int
    updated_at: int
    tags: dict[str, str]


@dataclass(frozen=True)
class Model:
    name: str
    description: str
    tags: dict[str, str]
    aliases: dict[str, int]


PROMPT_TAG = "mlflow.prompt.is_prompt"
"""MLflow keeps prompts as models with this tag; their versions hold no files, but their text in another tag."""


def is_elsewhere(version: Version) -> bool:
    """Whether a version has no files to copy: a prompt, or a note of a place that neither side keeps."""
    scheme = urlsplit(version.source).scheme
    return version.tags.get(PROMPT_TAG) == "true" or (
        len(scheme) > 1 and scheme not in ("file", "models", "runs", "mlflow-artifacts")
    )


class Source(Protocol):
    """An MLflow store that is read: a server, a database, a folder."""

    def experiments(self) -> Iterator[Experiment]: ...

    def runs(self, experiment: Experiment) -> Iterator[Run]: ...

    def history(self, run: Run) -> Iterator[Point]:
        """Every point of every metric of a run."""
        ...

    def logged_models(self, experiment: Experiment) -> Iterator[LoggedModel]: ...

    def models(self) -> Iterator[Model]: ...

    def versions(self, model: Model) -> Iterator[Version]:
        """A model's versions, lowest number first."""
        ...

    def close(self) -> None: ...
