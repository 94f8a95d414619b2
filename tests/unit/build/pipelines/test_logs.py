"""What steps print: kept as a file a step wherever it ran, and let through to the terminal."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.build.pipelines.logs import StepLogs
from tests.conftest import wait_until
from tests.unit.build.pipelines.conftest import Project

PIPELINE = """
    @yard.step
    def here() -> int:
        print("printed here")
        return 1

    @yard.step(timeout="60s")
    def there(number: int) -> int:
        print("printed there", flush=True)
        os.system("echo by a child")
        return number

    @yard.step
    def silent(number: int) -> int:
        return number

    @yard.pipeline
    def main():
        silent(there(here()))
"""
STUCK = """
    import hashlib, subprocess

    @yard.step
    def stuck() -> int:
        (HERE / "child").write_text(str(subprocess.Popen(["sleep", "600"]).pid))
        (HERE / "started").touch()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # minutes, and deaf to signals
        return 1

    @yard.pipeline
    def main():
        stuck()
"""


def command(project: Project, *arguments: str) -> "subprocess.Popen[str]":
    (project.folder / "modelyard.toml").write_text('[project]\nname = "small"\n')
    words = [sys.executable, "-m", "modelyard", "run", "pipeline.py:main", *arguments]
    return subprocess.Popen(
        words, cwd=project.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def logs(project: Project) -> dict[str, str]:
    return {file.stem: file.read_text() for file in project.folder.glob(".modelyard/logs/*/*.log")}


def test_what_steps_print_is_kept_and_shown(project: Project) -> None:
    project.write(PIPELINE)
    out, errors = command(project).communicate(timeout=60)
    assert errors == ""
    assert logs(project) == {"here": "printed here\n", "there": "printed there\nby a child\n"}
    lines = [line.strip() for line in out.splitlines()]
    assert {"printed here", "there | printed there", "there | by a child"} <= set(lines)


def test_json_is_not_mixed_with_what_steps_print(project: Project) -> None:
    project.write(PIPELINE)
    out, errors = command(project, "--json").communicate(timeout=60)
    assert json.loads(out)["steps"] == {"here": "finished", "there": "finished", "silent": "finished"}
    assert "printed here" in errors


def test_the_record_names_the_log(project: Project) -> None:
    project.write(PIPELINE)
    command(project).communicate(timeout=60)
    (journal,) = project.folder.glob(".modelyard/pipeline-runs/*.jsonl")
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    named = {each["step"]: each["details"]["log"] for each in events if each["event"] == "step" and each["ended_at"]}
    assert named["silent"] is None
    assert Path(named["here"]).read_text() == "printed here\n" and Path(named["there"]).exists()


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_step_inside_a_library_is_stopped_with_what_it_started(project: Project, number: int) -> None:
    project.write(STUCK)
    process = command(project)
    wait_until((project.folder / "started").exists, "the step to start")
    child = int((project.folder / "child").read_text())
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 130
    wait_until(lambda: not runs(child), "the step's own process to end")


def test_a_stream_that_is_captured_is_still_a_stream(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kept = StepLogs(tmp_path)
    with kept.capture("a/b"):
        assert sys.stdout.isatty() is False and sys.stdout.encoding
        sys.stdout.writelines(["one\n", "two\n"])
        print("three", file=sys.stderr)
    assert (tmp_path / "a_b.log").read_text() == "one\ntwo\nthree\n" and kept.kept("a/b")
    os.write(1, b"")
    assert "two" in capfd.readouterr().out
