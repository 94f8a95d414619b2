"""MLflow's artifact repository over a yard in this process."""

import json
import os
import posixpath
from pathlib import Path
from typing import Any

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException, RestException
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from modelyard.client.transport import Answer
from modelyard.mlflow_plugin.stores import HERE
from modelyard.mlflow_plugin.yard import SCHEME, home_of, local_yard

FILES = "/api/2.0/mlflow-artifacts/artifacts"


class YardArtifacts(ArtifactRepository):
    """`mlflow.artifact_repository` for modelyard:/<experiment>/<run>/artifacts."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        import mlflow  # late: this module is loaded while the library starts

        uri = tracking_uri or mlflow.get_tracking_uri()
        if not uri.startswith(SCHEME):
            raise MlflowException(f"{artifact_uri} lies in a yard, but the tracking URI is {uri}.")
        self._yard = local_yard(home_of(uri))
        self._root = artifact_uri.removeprefix(HERE).strip("/")

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        place = posixpath.join(self._root, artifact_path or "", os.path.basename(local_file))
        _checked(self._yard.upload(f"{FILES}/{place}", Path(local_file)))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        root = Path(local_dir)
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            folder = posixpath.join(artifact_path or "", file.parent.relative_to(root).as_posix())
            self.log_artifact(str(file), None if folder == "." else posixpath.normpath(folder))

    def list_artifacts(self, path: str | None = None) -> list[Any]:
        place = posixpath.join(self._root, path or "").rstrip("/")
        found = json.loads(_checked(self._yard.ask("GET", FILES, {"path": place})).body).get("files", [])
        return [
            FileInfo(posixpath.join(path or "", item["path"]), item["is_dir"], item.get("file_size"))
            for item in sorted(found, key=lambda item: item["path"])
        ]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        place = posixpath.join(self._root, remote_file_path)
        _checked(self._yard.download(f"{FILES}/{place}", Path(local_path)))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        place = posixpath.join(self._root, artifact_path or "").rstrip("/")
        _checked(self._yard.ask("DELETE", f"{FILES}/{place}"))


def _checked(answer: Answer) -> Answer:
    if answer.status != 200:
        raise RestException(json.loads(answer.body))
    return answer
