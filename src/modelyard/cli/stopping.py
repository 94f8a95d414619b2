"""Stopping a run that is asked to end: gently at first, and surely after a grace."""

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager

GRACE_S = 3.0
"""How long a step in this process may go on after the request, such as inside a library's C code."""
ASKED = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable() -> Generator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt in here; what does not end then is killed, with all it started."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    over = threading.Event()
    before = {number: signal.signal(number, signal.default_int_handler) for number in ASKED}
    woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading, over), name="modelyard-stop", daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        _kill_children()
        raise
    finally:
        over.set()
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)


def _watch(reading: int, over: threading.Event) -> None:
    """Wait for a signal in a thread of its own: the main one may be inside a library until it is too late."""
    while data := os.read(reading, 64):
        if set(data) & set(ASKED) and not over.wait(GRACE_S):
            _kill_children()
            os._exit(130)
    os.close(reading)


def _kill_children() -> None:
    from modelyard.kit.processes import descendants, kill_tree  # late: only a stopped run needs them

    for process in descendants(os.getpid()):
        kill_tree(process)
