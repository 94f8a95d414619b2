"""What steps print: kept as a file a step, passed on to the terminal as it comes."""

import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = "logs"
LOOK_S = 0.3
"""How often the logs of steps that run in other processes are looked at."""


class StepLogs:
    """Files under `folder`, made when something is printed. tell: called with (step, line) of other processes."""

    def __init__(self, folder: Path, tell: Callable[[str, str], None] | None = None) -> None:
        self._folder, self._tell = folder, tell
        self._read: dict[str, int] = {}
        self._held: dict[str, str] = {}
        self._follower: threading.Thread | None = None
        self._over = threading.Event()

    def path(self, step: str) -> str:
        return str(self._folder / f"{file_name(step)}.log")

    def kept(self, step: str) -> str | None:
        """The step's log; None when it printed nothing."""
        return self._held.get(step) or (self.path(step) if step in self._read else None)

    @contextmanager
    def capture(self, step: str) -> Generator[None]:
        """Keep what is printed in here, in this process, and let it through."""
        before = sys.stdout, sys.stderr
        file = _Late(self.path(step))
        sys.stdout, sys.stderr = _Tee(before[0], file), _Tee(before[1], file)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            if file.close():
                self._held[step] = file.path

    def elsewhere(self, step: str) -> str:
        """The file that a process which runs the step writes; its lines are told as they come."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._read.setdefault(step, 0)
        if self._tell is not None and self._follower is None:
            self._follower = threading.Thread(target=self._follow, name="modelyard-logs", daemon=True)
            self._follower.start()
        return self.path(step)

    def close(self) -> None:
        """Tell the last lines."""
        if self._follower is not None:
            self._over.set()
            self._follower.join()

    def _follow(self) -> None:
        while not self._over.wait(LOOK_S):
            self._look(False)
        self._look(True)

    def _look(self, last: bool) -> None:
        assert self._tell is not None, "who follows tells somebody"
        for step, place in list(self._read.items()):
            try:
                with open(self.path(step), "rb") as stream:
                    stream.seek(place)
                    text = stream.read()
            except FileNotFoundError:
                continue
            whole = text if last else text[: text.rfind(b"\n") + 1]
            self._read[step] = place + len(whole)
            for line in whole.decode("utf-8", "replace").splitlines():
                self._tell(step, line)


def newest(home: Path, run_id: str, step: str, most: int) -> tuple[str, bool] | None:
    """(the last bytes that a step printed so far, at most `most`; whether it is all); None when there is no log here.

    Logs stay on the machine that ran the pipeline.
    """
    if not run_id.isalnum():
        return None
    try:
        with (home / FOLDER / run_id / f"{file_name(step)}.log").open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - most))
            return stream.read(most).decode("utf-8", "replace"), size <= most
    except OSError:
        return None


def file_name(step: str) -> str:
    """A step's name as part of a file's name."""
    return step.replace("/", "_")


class _Late:
    """A file that is made by the first write."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._stream: Any = None

    def write(self, text: str) -> None:
        if self._stream is None:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._stream = open(self.path, "a", buffering=1, encoding="utf-8", errors="replace")
        self._stream.write(text)

    def close(self) -> bool:
        """Whether anything was written."""
        if self._stream is not None:
            self._stream.close()
        return self._stream is not None


class _Tee:
    """A text stream whose text is kept as well; in all else it is the stream."""

    def __init__(self, stream: Any, file: _Late) -> None:
        self._stream, self._file = stream, file

    def write(self, text: str) -> int:
        self._file.write(text)
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
