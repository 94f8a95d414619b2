"""Small real projects, each run in a fresh process as `modelyard run` does it."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

DRIVER = """
import json, sys
from pathlib import Path
from modelyard.build.pipelines.runner import Runner
from modelyard.build.pipelines.session import run_reference
from modelyard.domain.errors import ModelyardError

folder, given = Path(sys.argv[1]), json.loads(sys.argv[2])
answer = {}
try:
    def runner(graph, module, only_cached):
        fresh = frozenset(given["fresh"])
        home = folder / ".modelyard"
        return Runner(graph, folder, module, home, fresh=fresh, workers=2, only_cached=only_cached)

    result = run_reference(folder, sys.argv[3], given["params"], runner)
    answer = {"states": result.states, "metrics": result.metrics}
except ModelyardError as error:
    answer = {"error": type(error).__name__, "message": error.message, "remedy": error.remedy}
answer["heavy"] = sorted({"numpy", "pandas", "pyarrow", "sklearn", "mlflow"} & set(sys.modules))
print("ANSWER " + json.dumps(answer))
"""
HEADER = """
import os, time
from pathlib import Path
import modelyard as yard

HERE = Path(__file__).parent


def note(text: object) -> None:
    with (HERE / "ran.log").open("a") as stream:
        stream.write(f"{text}\\n")
"""


@dataclass
class Project:
    """A folder with a `pipeline.py`; its steps call `note(...)` to leave a line each time they truly run."""

    folder: Path

    def write(self, source: str, file: str = "pipeline.py") -> None:
        header = HEADER if file == "pipeline.py" else ""
        (self.folder / file).write_text(header + dedent(source))

    def command(self, reference: str = "pipeline.py:main", fresh: tuple[str, ...] = (), **params: str) -> list[str]:
        given = json.dumps({"params": params, "fresh": list(fresh)})
        return [sys.executable, "-c", DRIVER, str(self.folder), given, reference]

    def run(
        self,
        reference: str = "pipeline.py:main",
        fresh: tuple[str, ...] = (),
        deadline_s: float = 60.0,
        **params: str,
    ) -> dict[str, Any]:
        """What the run answered. Fails the test when the process raises, or takes longer than the deadline."""
        done = subprocess.run(
            self.command(reference, fresh, **params), capture_output=True, text=True, timeout=deadline_s, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.rpartition("ANSWER ")[2])

    def ran(self) -> list[str]:
        """The lines noted since the last call."""
        log = self.folder / "ran.log"
        lines = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
