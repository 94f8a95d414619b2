"""The hub as a pipeline run sees it: tracking and registration over the client's calls."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modelyard.build.pipelines.hub import Place
from modelyard.client.api import Client, path
from modelyard.domain.errors import Conflict, NotFound
from modelyard.domain.metrics import by_group


class ClientHub:
    """Implements `modelyard.build.pipelines.hub.Hub`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def start_pipeline_run(
        self, pipeline: str, params: dict[str, Any], code: dict[str, Any], cause: str | None
    ) -> str:
        body = {"pipeline": pipeline, "params": params, "code": code, "cause": cause}
        return self._client.call("POST", path("pipeline-runs"), body=body)["id"]

    def note_step(
        self, pipeline_run_id: str, step: str, state: str, key: str, seconds: float, error: str | None
    ) -> None:
        body = {"step": step, "state": state, "key": key, "seconds": seconds, "error": error}
        self._client.call("POST", path("pipeline-runs", pipeline_run_id, "steps"), body=body)

    def finish_pipeline_run(self, pipeline_run_id: str, error: str | None) -> None:
        self._client.call("POST", path("pipeline-runs", pipeline_run_id, "end"), body={"error": error})

    def create_run(
        self,
        experiment: str,
        name: str,
        pipeline_run_id: str,
        params: dict[str, str],
        metrics: dict[str, float],
        tags: dict[str, str],
    ) -> Place:
        body = {
            "experiment": experiment,
            "name": name,
            "pipeline_run_id": pipeline_run_id,
            "params": params,
            "metrics": metrics,
            "tags": tags,
        }
        made = self._client.call("POST", path("runs"), body=body)
        return Place(made["id"], made["artifact_root"])

    def end_run(self, run_id: str, status: str) -> None:
        self._client.call("POST", path("runs", run_id, "end"), body={"status": status})

    def create_logged_model(self, run_id: str, name: str) -> Place:
        made = self._client.call("POST", path("runs", run_id, "logged-models"), body={"name": name})
        return Place(made["id"], made["artifact_root"])

    def upload_folder(self, folder: Path, artifact_root: str) -> None:
        for file in sorted(found for found in folder.rglob("*") if found.is_file()):
            target = quote(f"{artifact_root}/{file.relative_to(folder).as_posix()}")
            self._client.upload("PUT", f"/api/v1/artifacts/{target}", file.read_bytes())

    def register_version(self, model: str, details: dict[str, Any]) -> dict[str, Any]:
        return self._client.call("POST", path("models", model, "versions"), body=details)

    def gated_metrics(self, model: str) -> list[str]:
        """The metrics that the project's gates of this model look at."""
        declared = self._client.call("GET", path("project"))["models"].get(model, {})
        gates: dict[str, Any] = declared.get("gates", {})
        return [by_group(name, gate.get("by")) for name, gate in gates.items()]

    def champion(self, model: str) -> dict[str, Any] | None:
        """The champion version with its files; None when there is none."""
        try:
            return self._client.call("GET", path("models", model, "versions", "champion"))
        except NotFound:
            return None

    def download_version(self, model: str, version: int, files: list[dict[str, Any]], folder: Path) -> None:
        """Write a version's files into `folder`. Raises Conflict when one does not match its digest."""
        for file in files:
            data = self._client.download(
                path("models", model, "versions", version, "files") + "/" + quote(file["path"])
            )
            if hashlib.sha256(data).hexdigest() != file["digest"]:
                raise Conflict(
                    f"{model} v{version}: {file['path']} does not match its digest.", remedy="Check the yard."
                )
            target = folder / file["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
