"""The record of a pipeline run, kept as a local file until the yard has it: nothing is lost when no server runs, when
it cannot be reached, or when the run is killed, and a run waits for none of it.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from modelyard.kit.ids import new_id
from modelyard.kit.processes import identity, is_gone

FOLDER = "pipeline-runs"
OWN = ("id", "pid", "process", "told")
"""What only the journal needs to know."""
UNDER_WAY, RAN = ("running", "retried"), ("finished", "failed")
"""States of a step that goes on, and of one that ran to an end."""
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
        told: bool = False,
    ) -> None:
        """told: the runner tells the yard itself; else a server that runs here follows the journal."""
        self.id = run_id or new_id()
        self._file = home / FOLDER / f"{self.id}.jsonl"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        start = {"pipeline": pipeline, "params": params, "code": code, "cause": cause, "told": told}
        start |= {"process": identity(), "pid": os.getpid()}
        self.record: dict[str, Any] = {"id": self.id, "steps": {}, **start, "started_at": _now(), "state": RUNNING}
        self._append("start", self.record)

    def step(self, name: str, note: dict[str, Any]) -> None:
        """Note that a step started, or how it ended."""
        now, ran = _now(), int(note["seconds"] * 1000) if note["state"] in RAN else 0
        held = {**note, "started_at": now - ran, "ended_at": None if note["state"] in UNDER_WAY else now}
        self.record["steps"][name] = held
        self._append("step", {"step": name, **held})

    def end(self, error: str | None) -> None:
        now = _now()
        ended = {"ended_at": now, "error": error, "state": FAILED if error else FINISHED}
        self.record |= ended
        self.record["steps"] = _stopped(self.record["steps"], now)
        self._append("end", ended)
        os.close(self._handle)

    @property
    def content(self) -> dict[str, Any]:
        """The record as the yard keeps it; a copy that another thread may read while the run goes on."""
        kept = {key: value for key, value in self.record.items() if key not in OWN}
        return kept | {"steps": dict(self.record["steps"])}

    def delivered(self) -> None:
        """The yard has it all."""
        self._file.unlink(missing_ok=True)

    def is_taken_in(self) -> bool:
        """Whether the yard has it all by itself."""
        return not self._file.exists()

    def _append(self, kind: str, content: dict[str, Any]) -> None:
        line = json.dumps({"event": kind, **content}, default=str) + "\n"
        os.write(self._handle, line.encode())


def _now() -> int:
    return int(time.time() * 1000)


def files(home: Path) -> list[Path]:
    """The journals that the yard does not have as a whole, oldest first by name."""
    return sorted((home / FOLDER).glob("*.jsonl"))


def _is_alive(record: dict[str, Any]) -> bool:
    if record.get("process"):
        return not is_gone(record["process"])
    try:
        os.kill(record["pid"], 0)
    except (ProcessLookupError, KeyError):
        return False
    except PermissionError:
        return True
    return True


def read(file: Path) -> dict[str, Any]:
    """The record in a journal, whose last line may be torn."""
    record: dict[str, Any] = {"id": file.stem, "steps": {}, "state": RUNNING, "told": False}
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
    if record["state"] != RUNNING:
        record["steps"] = _stopped(record["steps"], record["ended_at"])
    return record


def closed(record: dict[str, Any]) -> dict[str, Any]:
    """The record; that of a run whose process is gone without a word says that it failed."""
    if record["state"] == RUNNING and not _is_alive(record):
        last = max([record["started_at"], *(s["ended_at"] or s["started_at"] for s in record["steps"].values())])
        return {
            **record,
            "steps": _stopped(record["steps"], last),
            "state": FAILED,
            "ended_at": last,
            "error": "the runner was killed",
        }
    return record


def _stopped(steps: dict[str, dict[str, Any]], at: int) -> dict[str, dict[str, Any]]:
    """The steps of a run that is over: none of them goes on."""
    return {
        name: {**step, "state": "stopped", "ended_at": at} if step["state"] in UNDER_WAY else step
        for name, step in steps.items()
    }
