"""Commands say when the server that they ask has read an older project file."""

import os
import subprocess
import sys

from tests.conftest import RunningServer


def test_a_changed_project_file_is_said_until_the_server_starts_anew(server: RunningServer) -> None:
    def said() -> str:
        command = [sys.executable, "-m", "modelyard", "versions", "--json"]
        done = subprocess.run(command, cwd=server.project, capture_output=True, text=True, check=True)
        return done.stderr

    file = server.project / "modelyard.toml"
    before = file.stat()
    assert said() == ""
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 3_600_000_000_000))
    try:
        assert "To use it: modelyard reload" in said()
    finally:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
