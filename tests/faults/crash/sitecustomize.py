"""Loaded by every process of a yard under test: its server is killed right after the side effect that a file names.

The file MODELYARD_CRASH_AT holds `{"file", "first", "last"}`, a call's place in the source. What that call, or
anything that it calls, does to the database or the disk is its side effect; the process ends by SIGKILL once that is
done (for the database: in the writer's thread, right after the commit) and before anything that follows. One kill
uses the file up.
"""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

AT = Path(os.environ.get("MODELYARD_CRASH_AT", ""))
armed = False


def named(frame: FrameType | None) -> bool:
    """Whether the call that the file names is under way on this stack."""
    try:
        at = json.loads(AT.read_text())
    except (OSError, ValueError):
        return False
    while frame is not None:
        if frame.f_code.co_filename == at["file"] and at["first"] <= frame.f_lineno <= at["last"]:
            return True
        frame = frame.f_back
    return False


def end() -> None:
    AT.unlink()
    os.kill(os.getpid(), signal.SIGKILL)


def after(module: Any, name: str) -> None:
    """Let `module.name` end the process once it is done, where the file says so."""
    original = getattr(module, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        found = original(*arguments, **options)
        if named(sys._getframe(1)):
            end()
        return found

    setattr(module, name, wrapped)


def install() -> None:
    import pathlib
    import shutil

    from modelyard.kit import files
    from modelyard.store.database import Store

    for module, name in ((files, "atomic_write"), (os, "rename"), (shutil, "rmtree"), (pathlib.Path, "unlink")):
        after(module, name)
    opened, write = Store.__init__, Store.write

    def committed() -> None:
        if armed:
            end()

    def listening(self: Store, *arguments: Any, **options: Any) -> None:
        opened(self, *arguments, **options)
        self.on_commit(committed)

    def watched(self: Store, work: Any) -> Any:
        if not named(sys._getframe(1)):
            return write(self, work)

        def noted(conn: Any) -> Any:
            global armed
            found = work(conn)
            armed = True
            return found

        return write(self, noted)

    Store.__init__, Store.write = listening, watched  # type: ignore[method-assign]


if AT.name and "server" in sys.orig_argv:
    install()
