"""What the engine needs from the hub; implemented by the client above."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Place:
    """Something the hub made: its id, and the artifact folder that belongs to it."""

    id: str
    artifact_root: str


class Hub(Protocol):
    """The calls by which a pipeline run is tracked and its model registered."""

    def start_pipeline_run(
        self, pipeline: str, params: dict[str, Any], code: dict[str, Any], cause: str | None
    ) -> str: ...

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
        """details: what else is known of the step: reason, params, metrics, digests, cpu_seconds, peak_mb, log."""
        ...

    def finish_pipeline_run(self, pipeline_run_id: str, error: str | None) -> None: ...

    def create_run(
        self,
        experiment: str,
        name: str,
        pipeline_run_id: str,
        params: dict[str, str],
        metrics: dict[str, float],
        tags: dict[str, str],
        datasets: list[dict[str, Any]],
    ) -> Place: ...

    def end_run(self, run_id: str, status: str) -> None: ...

    def create_logged_model(self, run_id: str, name: str) -> Place: ...

    def upload_folder(self, folder: Path, artifact_root: str) -> None: ...

    def register_version(self, model: str, details: dict[str, Any]) -> dict[str, Any]: ...

    def gated_metrics(self, model: str) -> list[str]:
        """The metrics that the project's gates of this model look at."""
        ...

    def champion(self, model: str) -> dict[str, Any] | None:
        """The champion version with its `files`; None when there is none."""
        ...

    def download_version(self, model: str, version: int, files: list[dict[str, Any]], folder: Path) -> None:
        """Write a version's files into `folder`; raises Conflict when one does not match its digest."""
        ...
