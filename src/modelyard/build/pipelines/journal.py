"""The record of a pipeline run, kept as a local file until the yard has it: nothing is lost when no server runs, when
it cannot be reached, or when the run is killed, and a run waits for none of it.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from modelyard.kit.ids import new_id

FOLDER = "pipeline-runs"
RUNNING, FINISHED, FAILED = "running", "finished", "failed"


class Journal:
    """One line an event, appended as it happens; `record` is what they add up to."""

    def __init__(
        self,
        home: Path,
        pipeline: str,
        params: dict[str, Any],
        code: dict[str, Any],
        cause: str | None,
        run_id: str | None = None,
    ) -> None:
        self.id = run_id or new_id()
        self._file = home / FOLDER / f"{self.id}.jsonl"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        start = {"pipeline": pipeline, "params": params, "code": code, "cause": cause, "pid": os.getpid()}
        self.record: dict[str, Any] = {"id": self.id, "steps": {}, **start, "started_at": _now(), "state": RUNNING}
        self._append("start", self.record)

    def step(self, name: str, note: dict[str, Any]) -> None:
        """Note how a step ended."""
        held = {**note, "ended_at": _now()}
        self.record["steps"][name] = held
        self._append("step", {"step": name, **held})

    def end(self, error: str | None) -> None:
        ended = {"ended_at": _now(), "error": error, "state": FAILED if error else FINISHED}
        self.record |= ended
        self._append("end", ended)

    def delivered(self) -> None:
        """The yard has it all."""
        self._file.unlink(missing_ok=True)

    def _append(self, kind: str, content: dict[str, Any]) -> None:
        with self._file.open("a") as stream:
            stream.write(json.dumps({"event": kind, **content}, default=str) + "\n")


def _now() -> int:
    return int(time.time() * 1000)


def waiting(home: Path) -> list[Path]:
    """Journals that the yard does not have yet, and whose runs are over."""
    return [file for file in sorted((home / FOLDER).glob("*.jsonl")) if not _is_alive(read(file))]


def _is_alive(record: dict[str, Any]) -> bool:
    if record["state"] != RUNNING:
        return False
    try:
        os.kill(record["pid"], 0)
    except (ProcessLookupError, KeyError):
        return False
    except PermissionError:
        return True
    return True


def read(file: Path) -> dict[str, Any]:
    """The record in a journal; its last line may be torn. A run that ended without saying so was killed."""
    record: dict[str, Any] = {"id": file.stem, "steps": {}, "state": RUNNING}
    for line in file.read_text().splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue
        kind = content.pop("event")
        if kind == "step":
            record["steps"][content.pop("step")] = content
        else:
            record |= content
    return record


def closed(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a run that is over."""
    if record["state"] == RUNNING:
        last = max([record["started_at"], *(step["ended_at"] for step in record["steps"].values())])
        return {**record, "state": FAILED, "ended_at": last, "error": "the runner was killed"}
    return record
