"""The hub as a pipeline run sees it: tracking and registration over the client's calls."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from modelyard.build.pipelines.hub import Place
from modelyard.build.pipelines.journal import Journal
from modelyard.client.paths import path
from modelyard.domain.errors import Conflict, ModelyardError, NotFound, Unavailable
from modelyard.domain.metrics import by_group

if TYPE_CHECKING:
    from modelyard.client.api import Client

TELL_S = 1.0
PATIENCE_S = 2.0


class ClientHub:
    """Implements `modelyard.build.pipelines.hub.Hub`."""

    def __init__(
        self,
        client: "Client | Callable[[], Client]",
        home: Path | None = None,
        live: bool = False,
        followed: bool = False,
        run_id: str | None = None,
    ) -> None:
        """client: or a function that opens one, called when something has to be asked or told at once. home: where
        the record of a pipeline run is kept until it is delivered; live: deliver it as it grows; followed: a server
        takes it in by itself. run_id: the id of the pipeline run, where whoever starts it must find it again; a new
        one by default.
        """
        self._open = client if callable(client) else lambda: client
        self._opened: Client | None = None
        self._home, self._live, self._followed, self._run_id = home, live, followed, run_id
        self._journal: Journal | None = None
        self._teller: threading.Timer | None = None
        """Tells what happened since it was told last, beside the run."""

    @property
    def _client(self) -> "Client":
        """The client; the yard then knows of the pipeline run."""
        if self._opened is None:
            self._opened = self._open()
            if self._journal is not None and not self._live:
                self._deliver()
        return self._opened

    def start_pipeline_run(
        self, pipeline: str, params: dict[str, Any], code: dict[str, Any], cause: str | None
    ) -> str:
        assert self._home is not None, "a hub that tracks runs has a home for their journals"
        self._journal = Journal(self._home, pipeline, params, code, cause, self._run_id, self._live)
        if self._live:
            self._deliver()
        return self._journal.id

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
        assert self._journal is not None, "the pipeline run was started"
        note = {"state": state, "key": key, "seconds": seconds, "error": error, "details": details}
        self._journal.step(step, note)
        if self._live and self._teller is None:
            self._teller = threading.Timer(TELL_S, self._tell)
            self._teller.daemon = True
            self._teller.start()

    def finish_pipeline_run(self, pipeline_run_id: str, error: str | None) -> None:
        assert self._journal is not None, "the pipeline run was started"
        self._journal.end(error)
        if self._teller is not None:
            self._teller.cancel()
            self._teller.join()
        if self._live or self._opened is not None:
            if self._deliver():
                self._journal.delivered()
        elif self._followed:
            self._wait_for_follower(self._journal)

    def _wait_for_follower(self, journal: Journal) -> None:
        """Whoever asks the yard after the run finds it there; a server that is too busy gets it later."""
        deadline = time.monotonic() + PATIENCE_S
        while not journal.is_taken_in() and time.monotonic() < deadline:
            time.sleep(PATIENCE_S / 100)

    def _tell(self) -> None:
        self._teller = None
        with contextlib.suppress(ModelyardError):  # what the yard refuses is raised when the run is over
            self._deliver()

    def _deliver(self) -> bool:
        """Whether the yard has the record as it is now; one that cannot be reached gets it later."""
        assert self._journal is not None, "the pipeline run was started"
        try:
            self._client.call("PUT", path("pipeline-runs", self._journal.id), body=self._journal.content)
        except Unavailable:
            return False
        return True

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
        body = {
            "experiment": experiment,
            "name": name,
            "pipeline_run_id": pipeline_run_id,
            "params": params,
            "metrics": metrics,
            "tags": tags,
            "datasets": datasets,
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
