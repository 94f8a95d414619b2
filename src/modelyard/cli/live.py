"""What goes on now, as the last line of a terminal, beneath what is printed."""

import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

TICK_S = 0.5
ERASE = "\r\x1b[2K"
MOST_NAMES = 4


class Live:
    """The line: each step that runs, and for how long. On a stream that is no terminal it draws nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._since: dict[str, float] = {}
        self._lock = threading.RLock()
        self._drawn, self._torn = False, False
        self._over = threading.Event()
        self._ticker: threading.Thread | None = None

    @contextmanager
    def shown(self) -> Generator[None]:
        """Draw the line in here; whatever is printed meanwhile goes above it."""
        if not self._stream.isatty():
            yield
            return
        out, errors = _Above(sys.stdout, self), _Above(sys.stderr, self)
        try:
            with redirect_stdout(out), redirect_stderr(errors):  # pyright: ignore[reportArgumentType]
                yield
        finally:
            self._over.set()
            with self._lock:
                self._erase()

    def note(self, step: str, state: str) -> None:
        """A step started, or it is over."""
        with self._lock:
            if state == "started":
                self._since[step] = time.monotonic()
            else:
                self._since.pop(step, None)
        if self._ticker is None and self._stream.isatty():
            self._ticker = threading.Thread(target=self._tick, name="modelyard-live", daemon=True)
            self._ticker.start()

    def above(self, stream: TextIO, text: str) -> int:
        """Print where the line was; it comes back with the next tick."""
        with self._lock:
            self._erase()
            self._torn = not text.endswith("\n")  # the rest of a line that somebody prints is still to come
            written = stream.write(text)
            stream.flush()
            return written

    def _tick(self) -> None:
        while not self._over.wait(TICK_S):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        self._erase()
        if not self._since or self._torn or self._over.is_set():
            return
        now = time.monotonic()
        parts = [f"{step} {now - since:.0f} s" for step, since in list(self._since.items())[:MOST_NAMES]]
        more = len(self._since) - MOST_NAMES
        self._stream.write(f"  … {', '.join(parts)}{f' and {more} more' if more > 0 else ''}")
        self._stream.flush()
        self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(ERASE)
            self._stream.flush()
            self._drawn = False


class _Above:
    """A stream whose text goes above the line; in all else it is the stream."""

    def __init__(self, stream: TextIO, live: Live) -> None:
        self._stream, self._live = stream, live

    def write(self, text: str) -> int:
        return self._live.above(self._stream, text) if text else 0

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
