"""Running small projects in fresh processes: cache, retries, limits, parallel branches, errors."""

import os
from pathlib import Path

import pytest

from tests.unit.build.pipelines.conftest import Project

CHAIN = """
    @yard.step
    def load(size: int) -> list[int]:
        note("load")
        yard_metric(size)
        return list(range(size))

    @yard.step
    def total(rows: list[int]) -> int:
        note("total")
        return sum(rows)

    @yard.step(cache=False)
    def check(value: int) -> bool:
        note("check")
        return value > 0

    @yard.pipeline
    def main(size: int = 4):
        check(total(load(size)))
"""
IMPORT_METRIC = "from modelyard import log_metric\ndef yard_metric(size): log_metric('size', size)\n"


def write_chain(project: Project) -> None:
    project.write(CHAIN)
    file = project.folder / "pipeline.py"
    file.write_text(
        file.read_text().replace("import modelyard as yard\n", "import modelyard as yard\n" + IMPORT_METRIC)
    )


def test_finished_steps_are_not_run_again_and_still_report_what_they_logged(project: Project):
    write_chain(project)
    first = project.run()
    assert first["states"] == {"load": "finished", "total": "finished", "check": "finished"}
    assert project.ran() == ["load", "total", "check"]
    second = project.run()
    assert second["states"] == {"load": "cached", "total": "cached", "check": "finished"}
    assert project.ran() == ["check"]
    assert second["metrics"] == first["metrics"] == {"size": 4.0}


def test_a_parameter_is_part_of_the_key(project: Project):
    write_chain(project)
    project.run()
    assert project.run(size="5")["states"]["load"] == "finished"
    assert project.run(size="4")["states"]["load"] == "cached"


def test_a_step_whose_new_input_is_equal_to_the_old_is_cached(project: Project):
    write_chain(project)
    project.run()
    file = project.folder / "pipeline.py"
    file.write_text(file.read_text().replace("list(range(size))", "[*range(size)]"))
    assert project.run()["states"] == {"load": "finished", "total": "cached", "check": "finished"}


def test_fresh_runs_a_step_again_and_names_the_known_ones(project: Project):
    write_chain(project)
    project.run()
    project.ran()
    project.run(fresh=("total",))
    assert project.ran() == ["total", "check"]
    answer = project.run(fresh=("totals",))
    assert answer["error"] == "Invalid" and "load, total, check" in answer["remedy"]


def test_a_cached_run_loads_no_heavy_library(project: Project):
    project.write("""
        @yard.step
        def load() -> object:
            import pandas as pd
            return pd.DataFrame({"x": [1, 2]})

        @yard.step
        def size(rows: object) -> int:
            return len(rows)

        @yard.pipeline
        def main():
            size(load())
    """)
    assert "pandas" in project.run()["heavy"]
    assert project.run()["heavy"] == []


def test_independent_branches_run_side_by_side(project: Project):
    project.write("""
        @yard.step
        def meet(name: str, other: str) -> str:
            (HERE / name).touch()
            while not (HERE / other).exists():
                time.sleep(0.01)
            return name

        @yard.step
        def join(names: list[str]) -> str:
            return "".join(names)

        @yard.pipeline
        def main():
            join([meet("a", "b"), meet("b", "a")])
    """)
    assert set(project.run()["states"].values()) == {"finished"}


def test_steps_get_values_of_their_own(project: Project):
    project.write("""
        @yard.step
        def load() -> list[int]:
            return [1]

        @yard.step
        def spoil(rows: list[int]) -> list[int]:
            rows.append(2)
            return rows

        @yard.step
        def look(rows: list[int], spoilt: list[int]) -> int:
            note(f"{rows}/{spoilt}".replace(" ", ""))
            return 0

        @yard.pipeline
        def main():
            rows = load()
            look(rows, spoil(rows))
    """)
    project.run()
    assert project.ran() == ["[1]/[1,2]"]


def test_a_retried_step_leaves_the_others_inputs_alone(project: Project):
    project.write("""
        @yard.step
        def load() -> tuple[list[int], list[int]]:
            return [1], [9]

        @yard.step(retries=1)
        def spoil(rows: list[int]) -> list[int]:
            rows.append(2)
            if not (HERE / "tried").exists():
                (HERE / "tried").touch()
                raise OSError("once")
            return rows

        @yard.step
        def look(rows: list[int], spoilt: list[int]) -> int:
            note(f"{rows}/{spoilt}".replace(" ", ""))
            return 0

        @yard.pipeline
        def main():
            rows, _ = load()
            look(rows, spoil(rows))
    """)
    project.run()
    assert project.ran() == ["[1]/[1,2]"]


def test_the_same_step_twice_side_by_side(project: Project):
    project.write("""
        @yard.step
        def load(name: str) -> str:
            note(name)
            return name

        @yard.step
        def join(names: list[str]) -> str:
            return "".join(names)

        @yard.pipeline
        def main():
            join([load("a"), load("a")])
    """)
    assert project.run()["states"]["join"] == "finished"
    assert project.ran() == ["a"]


TWO_FILES = """
    import steps

    @yard.step
    def join(first: int, second: int) -> int:
        return first + second

    @yard.pipeline
    def main():
        join(steps.one(), steps.two())
"""


def test_steps_of_another_module_run_side_by_side(project: Project):
    project.write(TWO_FILES)
    project.write(
        """
        import modelyard as yard

        @yard.step
        def one() -> int:
            return 1

        @yard.step
        def two() -> int:
            return 2
        """,
        "steps.py",
    )
    assert project.run().get("states") == {"one": "finished", "two": "finished", "join": "finished"}


def test_retries(project: Project):
    project.write("""
        @yard.step(retries=1)
        def flaky() -> int:
            note("try")
            if not (HERE / "tried").exists():
                (HERE / "tried").touch()
                raise OSError("once")
            return 1

        @yard.pipeline
        def main():
            flaky()
    """)
    assert project.run()["states"] == {"flaky": "finished"}
    assert project.ran() == ["try", "try"]


FAILING = """
    def ratio(a, b):
        return a / b

    @yard.step
    def load() -> int:
        note("load")
        return 0

    @yard.step{options}
    def work(value: int) -> float:
        note("work")
        {body}

    @yard.pipeline
    def main():
        work(load())
"""


def test_a_step_that_raises_names_step_line_and_function_and_keeps_what_finished(project: Project):
    project.write(FAILING.format(options="", body="return ratio(1, value)"))
    answer = project.run()
    line = (project.folder / "pipeline.py").read_text().split("\n").index("    return a / b") + 1
    assert answer["error"] == "StepFailed"
    assert answer["message"] == (
        f"Step 'work' raised ZeroDivisionError: division by zero at pipeline.py:{line} in ratio."
    )
    assert "not run twice" in answer["remedy"]
    project.run()
    assert project.ran() == ["load", "work", "work"]


def test_a_timeout_stops_the_step(project: Project):
    body = "(HERE / 'pid').write_text(str(os.getpid())); time.sleep(60); return 0.0"
    project.write(FAILING.format(options="(timeout='5s')", body=body))  # time enough to begin
    answer = project.run(deadline_s=30)
    assert answer["error"] == "StepFailed" and "timeout of 5 s" in answer["message"] and "'work'" in answer["message"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((project.folder / "pid").read_text()), 0)


def test_a_memory_limit_names_the_step(project: Project):
    body = "return float(len(bytearray(2 << 30)))"
    project.write(FAILING.format(options="(resources=yard.Resources(memory='512MiB'))", body=body))
    answer = project.run()
    assert answer["error"] == "StepFailed" and "'work'" in answer["message"] and "MemoryError" in answer["message"]


def test_a_step_process_that_dies_is_told(project: Project):
    project.write(FAILING.format(options="(timeout='30s')", body="os._exit(3)"))
    answer = project.run()
    assert answer["error"] == "StepFailed" and "exit code 3" in answer["message"]


def test_a_failing_branch_stops_the_other(project: Project):
    project.write("""
        @yard.step
        def slow() -> int:
            (HERE / "pid").write_text(str(os.getpid()))
            time.sleep(60)
            return 1

        @yard.step
        def bad() -> int:
            while not (HERE / "pid").exists():
                time.sleep(0.01)
            raise ValueError("bad")

        @yard.step
        def join(first: int, second: int) -> int:
            return first + second

        @yard.pipeline
        def main():
            join(slow(), bad())
    """)
    answer = project.run(deadline_s=30)
    assert "'bad' raised ValueError" in answer["message"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((project.folder / "pid").read_text()), 0)


def test_a_result_that_nothing_can_keep_names_the_step(project: Project):
    project.write(FAILING.format(options="", body="return object()"))
    answer = project.run()
    assert answer["error"] == "StepFailed" and "'work'" in answer["message"] and "serializer" in answer["message"]


def test_an_argument_that_cannot_be_part_of_a_key_names_the_step(project: Project):
    project.write(FAILING.format(options="", body="return 1.0").replace("load())", "object())"))
    answer = project.run()
    assert answer["error"] == "Invalid" and "'work'" in answer["message"]


@pytest.mark.parametrize(
    ("signature", "call"), [("*values: int", "1, 2"), ("value: int, /", "1")], ids=["variadic", "positional-only"]
)
def test_positional_parameters(project: Project, signature: str, call: str):
    project.write(f"""
        @yard.step
        def work({signature}) -> int:
            return 1

        @yard.pipeline
        def main():
            work({call})
    """)
    assert project.run().get("states") == {"work": "finished"}


def test_annotations_that_are_only_there_for_the_type_checker(project: Project):
    project.write("""
        @yard.step
        def load() -> tuple["pd.DataFrame", "pd.DataFrame"]:
            import pandas as pd
            return pd.DataFrame(), pd.DataFrame()

        @yard.step
        def size(rows: "pd.DataFrame") -> int:
            return len(rows)

        @yard.pipeline
        def main():
            train, test = load()
            size(train)
    """)
    assert project.run().get("states") == {"load": "finished", "size": "finished"}


@pytest.mark.parametrize(
    ("annotation", "returned"),
    [
        pytest.param("tuple[int, int]", "None", id="not iterable"),
        pytest.param("object", "__import__('pandas').DataFrame({'x': [1, 'a']})", id="mixed column"),
    ],
)
def test_a_result_of_the_wrong_shape_names_the_step(project: Project, annotation: str, returned: str):
    project.write(f"""
        @yard.step
        def work() -> {annotation}:
            return {returned}

        @yard.pipeline
        def main():
            work()
    """)
    answer = project.run()
    assert answer["error"] == "StepFailed" and "'work'" in answer["message"]


def test_a_pipeline_body_that_raises_names_its_line(project: Project):
    project.write("""
        @yard.pipeline
        def main():
            (HERE / "today.txt").read_text()
    """)
    answer = project.run()
    assert "pipeline.py:" in answer["message"]


def test_an_error_of_ours_inside_a_step_names_the_step(project: Project):
    body = "from modelyard.domain.errors import Unavailable; raise Unavailable('The feature store is down.')"
    project.write(FAILING.format(options="", body=body))
    assert "'work'" in project.run()["message"]


def test_the_line_named_is_the_users(project: Project):
    body = "import pandas as pd; return yard.evaluate_binary(None, pd.DataFrame({'late': [1]}), label='late').rows"
    project.write(FAILING.format(options="", body=body))
    assert "at pipeline.py:" in project.run()["message"]


def test_log_metric_and_log_param_are_public():
    import modelyard as yard

    assert yard.log_metric and yard.log_param


def test_registering_without_a_yard_says_what_to_do(project: Project):
    project.write("""
        @yard.step
        def fit() -> int:
            return 1

        @yard.pipeline
        def main():
            yard.register("m", model=fit())
    """)
    answer = project.run()
    assert answer["error"] == "Invalid" and "modelyard run" in answer["remedy"]


def test_the_home_of_the_cache_is_a_folder(project: Project, tmp_path: Path):
    write_chain(project)
    (tmp_path / ".modelyard").touch()
    answer = project.run()
    assert answer["error"] == "Unavailable" and "MODELYARD_HOME" in answer["remedy"]


def test_a_memory_limit_counts_the_processes_that_the_step_started(project: Project):
    project.write("""
        import subprocess, sys

        @yard.step(resources=yard.Resources(memory="400MiB"))
        def greedy() -> int:
            code = "import time; held = bytearray(250 << 20); time.sleep(600)"
            for child in [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]:
                child.wait()
            return 1

        @yard.pipeline
        def main():
            greedy()
    """)
    answer = project.run()
    assert "'greedy'" in answer["message"] and "400 MiB" in answer["message"] and "memory" in answer["message"]
