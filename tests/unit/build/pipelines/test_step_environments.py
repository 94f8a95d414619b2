"""Steps with libraries of their own: two versions of one library in one pipeline, locked, built once, cached."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from modelyard.build.pipelines.step_environments import StepEnvironments
from modelyard.domain.errors import ConfigError, Invalid
from tests.unit.build.pipelines.conftest import Project

PIPELINE = """
    @yard.step(environment="old")
    def first() -> str:
        import greeter
        note("first")
        return f"{greeter.WORDS} {greeter.__file__}"

    @yard.step(environment="new")
    def second(said: str) -> list[str]:
        import greeter
        note("second")
        return [said, f"{greeter.WORDS} {greeter.__file__}"]

    @yard.step
    def check(said: list[str]) -> int:
        import importlib.util
        (HERE / "said").write_text("\\n".join(said))
        assert importlib.util.find_spec("greeter") is None
        return len(said)

    @yard.pipeline
    def main():
        check(second(first()))
"""


def wheel(folder: Path, version: str) -> None:
    """A library `greeter` whose words tell its version."""
    info = f"greeter-{version}.dist-info"
    files = {
        "greeter.py": f"WORDS = 'hello {version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: greeter\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with ZipFile(folder / f"greeter-{version}-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


@pytest.fixture
def two(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose steps name two environments; uv finds both versions in a folder, and asks nobody else."""
    shelf = tmp_path_factory.mktemp("shelf")
    for version in ("1.0", "2.0", "2.1"):
        wheel(shelf, version)
    for name, value in {"UV_FIND_LINKS": str(shelf), "UV_NO_INDEX": "1", "UV_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    declare(project, "greeter==2.0")
    project.write(PIPELINE)
    return project


def declare(project: Project, new: str) -> None:
    text = '[project]\nname = "two"\n'
    for name, requirement in {"old": "greeter==1.0", "new": new}.items():
        text += f'[step_environments.{name}]\nrequirements = ["{requirement}"]\n'
    (project.folder / "modelyard.toml").write_text(text)


def test_two_versions_of_a_library_in_one_pipeline(two: Project) -> None:
    answer = two.run()
    assert answer.get("states") == {"first": "finished", "second": "finished", "check": "finished"}, answer
    old, new = (two.folder / "said").read_text().splitlines()
    assert old.startswith("hello 1.0 ") and new.startswith("hello 2.0 ")
    assert old.split()[2].startswith(str(two.folder / ".modelyard" / "environments" / "old-"))
    assert "greeter==1.0" in (two.folder / "old.lock.txt").read_text()
    assert two.run()["states"] == {"first": "cached", "second": "cached", "check": "cached"}
    two.ran()
    declare(two, "greeter>=2.1")
    assert two.run()["states"]["second"] == "finished" and two.ran() == ["second"]
    assert "hello 2.1" in (two.folder / "said").read_text()


def test_the_lock_decides_not_what_is_newest(two: Project) -> None:
    declare(two, "greeter>=2")
    (two.folder / "new.lock.txt").unlink(missing_ok=True)
    environments = StepEnvironments(two.folder, two.folder / ".modelyard")
    before = environments.digest("new")
    lock = two.folder / "new.lock.txt"
    assert "greeter==2.1" in lock.read_text()
    lock.write_text(lock.read_text().replace("2.1", "2.0"))
    again = StepEnvironments(two.folder, two.folder / ".modelyard")
    assert again.digest("new") != before
    command = [again.python("new"), "-c", "import greeter; print(greeter.WORDS)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "hello 2.0\n"


def test_one_builds_and_the_other_waits(two: Project) -> None:
    code = (
        "import sys; from pathlib import Path; from modelyard.build.pipelines.step_environments import *; "
        "print(StepEnvironments(Path(sys.argv[1]), Path(sys.argv[1]) / '.modelyard').python('old'))"
    )
    command = [sys.executable, "-c", code, str(two.folder)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    pythons = {process.communicate(timeout=60)[0].strip() for process in both}
    assert len(pythons) == 1 and os.access(pythons.pop(), os.X_OK)


def test_an_environment_that_is_not_declared_names_those_that_are(two: Project) -> None:
    environments = StepEnvironments(two.folder, two.folder / ".modelyard")
    with pytest.raises(ConfigError) as raised:
        environments.digest("older")
    assert "new, old" in raised.value.remedy


def test_requirements_that_cannot_be_met_are_told(two: Project) -> None:
    declare(two, "greeter==9")
    with pytest.raises(Invalid) as raised:
        StepEnvironments(two.folder, two.folder / ".modelyard").digest("new")
    assert "greeter" in raised.value.message and not (two.folder / "new.lock.txt").exists()
