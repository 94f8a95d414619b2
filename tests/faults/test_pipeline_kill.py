"""Pipeline runs that are killed, and two that want the same step."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunningServer, start_server, wait_until
from tests.unit.build.pipelines.conftest import Project

TRAINING = """
    @yard.step
    def load() -> list[int]:
        note("load")
        return [1, 2, 3]

    @yard.step
    def features(rows: list[int]) -> list[int]:
        note("features")
        return [row * 2 for row in rows]

    @yard.step{options}
    def fit(rows: list[int]) -> int:
        note("fit")
        with (HERE / "fitting").open("a") as stream:
            stream.write(f"{{os.getpid()}}\\n")
        while not (HERE / "go").exists():
            time.sleep(0.01)
        return sum(rows)

    @yard.step
    def evaluate(model: int) -> float:
        note("evaluate")
        return model / 2

    @yard.pipeline
    def main():
        evaluate(fit(features(load())))
"""


@pytest.fixture
def training(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write(TRAINING.format(options=""))
    return project


def start(project: Project) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(project.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def fitting(project: Project, count: int) -> Callable[[], list[int] | None]:
    """The process ids that entered `fit`, once there are `count`."""

    def found() -> list[int] | None:
        file = project.folder / "fitting"
        ids = [int(line) for line in file.read_text().split()] if file.exists() else []
        return ids if len(ids) >= count else None

    return found


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("again", range(3))
def test_killed_in_training_and_run_again_repeats_no_finished_step(training: Project, again: int):
    for kill in range(1, again + 2):
        process = start(training)
        wait_until(fitting(training, kill), "the training step")
        process.kill()
        process.wait(60)
    (training.folder / "go").touch()
    states = training.run()["states"]
    assert states == {"load": "cached", "features": "cached", "fit": "finished", "evaluate": "finished"}
    assert training.ran() == ["load", "features", *["fit"] * (again + 2), "evaluate"]


def test_nothing_half_written_counts_as_finished(training: Project):
    """Kill at the moment an output is written: whatever is in the cache afterwards is whole."""
    training.write("""
        @yard.step
        def big() -> str:
            note("big")
            return "x" * (64 << 20)

        @yard.step
        def size(text: str) -> int:
            note(len(text))
            return len(text)

        @yard.pipeline
        def main():
            size(big())
    """)
    objects = training.folder / ".modelyard" / "cache" / "objects"
    process = start(training)
    wait_until(lambda: objects.exists() and list(objects.iterdir()), "the output's file")
    process.kill()
    process.wait(60)
    assert set(training.run()["states"]) == {"big", "size"}
    assert training.ran()[-1] == str(64 << 20)


def test_two_runners_share_the_work(training: Project):
    first, second = start(training), start(training)
    wait_until(fitting(training, 1), "one of the two to train")
    (training.folder / "go").touch()
    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert sorted(training.ran()) == ["evaluate", "features", "fit", "load"]


def test_the_other_runner_takes_over_when_the_working_one_is_killed(training: Project):
    first, second = start(training), start(training)
    found = wait_until(fitting(training, 1), "one of the two to train")
    assert isinstance(found, list)
    os.kill(found[0], signal.SIGKILL)
    wait_until(fitting(training, 2), "the other one to take over")
    (training.folder / "go").touch()
    codes = sorted((first.wait(60), second.wait(60)))
    assert codes == [-signal.SIGKILL, 0]
    assert sorted(training.ran()) == ["evaluate", "features", "fit", "fit", "load"]


def test_a_killed_step_process_is_an_error_that_names_the_step(training: Project):
    training.write(TRAINING.format(options="(timeout='60s')"))
    process = subprocess.Popen(training.command(), stdout=subprocess.PIPE, text=True)
    found = wait_until(fitting(training, 1), "the step's process")
    assert isinstance(found, list) and found[0] != process.pid
    os.kill(found[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert "StepFailed" in output and "'fit' died" in output
    (training.folder / "go").touch()
    assert training.run()["states"]["features"] == "cached"


def test_workers_whose_parent_is_killed_end_and_the_step_is_named(training: Project):
    training.write(TRAINING.format(options="(timeout='60s')"))
    process = subprocess.Popen(training.command(), stdout=subprocess.PIPE, text=True)
    found = wait_until(fitting(training, 1), "the step's process")
    assert isinstance(found, list)
    parent = int(Path(f"/proc/{found[0]}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != process.pid
    os.kill(parent, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert "StepFailed" in output and "'fit' lost its worker processes" in output
    wait_until(lambda: not alive(found[0]), "the step to end with the process that it was forked from")


def test_a_timeout_stops_what_the_step_started_in_a_session_of_its_own(training: Project):
    training.write("""
        import subprocess

        @yard.step(timeout="5s")
        def fit() -> int:
            child = subprocess.Popen(["sleep", "600"], start_new_session=True)
            (HERE / "child").write_text(str(child.pid))
            return child.wait()

        @yard.pipeline
        def main():
            fit()
    """)
    answer = training.run()
    assert answer["error"] == "StepFailed" and "timeout of 5 s" in answer["message"]
    child = int((training.folder / "child").read_text())
    wait_until(lambda: not alive(child), "what the step started to end")


def test_a_killed_runner_leaves_no_step_behind(training: Project):
    training.write(TRAINING.format(options="(timeout='60s')"))
    process = start(training)
    found = wait_until(fitting(training, 1), "the step's process")
    assert isinstance(found, list)
    process.kill()
    process.wait(60)
    try:
        wait_until(lambda: not alive(found[0]), "the step to end with its runner", deadline_s=30)
    finally:
        (training.folder / "go").touch()
        wait_until(lambda: not alive(found[0]), "the step to end")


@pytest.fixture
def yard(training: Project) -> Iterator[RunningServer]:
    (training.folder / "modelyard.toml").write_text('[project]\nname = "training"\n')
    training.write(TRAINING.format(options="").replace('note("fit")', 'print("epoch 1", flush=True)'))
    server = start_server(training.folder)
    yield server
    server.stop()


def run(project: Project, *options: str) -> "subprocess.Popen[bytes]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD", "MLFLOW"))}
    command = [sys.executable, "-m", "modelyard", "run", "pipeline.py:main", *options]
    return subprocess.Popen(
        command, cwd=project.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def known(yard: RunningServer, state: str, step: str, step_state: str) -> Callable[[], dict[str, Any] | None]:
    """The newest pipeline run as the server knows it, once it and one of its steps are in these states."""

    def found() -> dict[str, Any] | None:
        listed = yard.client.call("GET", "/api/v1/pipeline-runs")["pipeline_runs"]
        states = {each["step"]: each["state"] for each in listed[0]["steps"]} if listed else {}
        return listed[0] if listed and listed[0]["state"] == state and states.get(step) == step_state else None

    return found


def test_the_server_shows_a_run_as_it_goes_on_and_that_it_was_killed(training: Project, yard: RunningServer):
    process = run(training)
    made = wait_until(known(yard, "running", "fit", "running"), "the server to know that fit runs")
    assert isinstance(made, dict)
    log = f"/api/v1/pipeline-runs/{made['id']}/logs/fit"
    wait_until(lambda: yard.client.call("GET", log)["text"] == "epoch 1\n", "what the step printed so far")
    process.kill()
    process.communicate(timeout=60)
    made = wait_until(known(yard, "failed", "fit", "stopped"), "the server to notice that the runner is gone")
    assert isinstance(made, dict) and made["error"] == "the runner was killed"
    (training.folder / "go").touch()
    resumed = run(training, "--resume")
    assert resumed.wait(60) == 0
    made = yard.client.call("GET", "/api/v1/pipeline-runs")["pipeline_runs"][0]
    states = {each["step"]: each["state"] for each in made["steps"]}
    assert states == {"load": "cached", "features": "cached", "fit": "finished", "evaluate": "finished"}
    assert not list(yard.home.glob("pipeline-runs/*.jsonl"))


def test_a_run_told_as_somebody_else_is_theirs_and_its_death_is_noticed(training: Project, yard: RunningServer):
    yard.client.call("POST", "/api/v1/principals", body={"name": "ana", "roles": ["ml-engineer"]})
    token = yard.client.call("POST", "/api/v1/tokens", body={"principal": "ana"})["token"]
    environment = {"PATH": os.environ["PATH"], "MODELYARD_TOKEN": token}
    command = [sys.executable, "-m", "modelyard", "run", "pipeline.py:main"]
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=training.folder, env=environment, stdout=nothing, stderr=nothing)
    wait_until(fitting(training, 1), "the training step")
    made = wait_until(known(yard, "running", "load", "finished"), "the run to be told")
    assert isinstance(made, dict) and made["started_by"] == "ana"
    process.kill()
    process.wait(60)
    made = wait_until(known(yard, "failed", "fit", "stopped"), "the server to notice that the runner is gone")
    assert isinstance(made, dict) and made["started_by"] == "ana"
    runs = yard.client.call("GET", "/api/v1/runs", query={"experiment": "main"})["runs"]
    assert {each["author"] for each in runs} == {"ana"}
