"""What every check works with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard.build.ci.rehearsal import Rehearsal
from modelyard.domain.project import Project

SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "venv", "build", "dist", "site-packages"})
DriftTest = Callable[[Path, Path], list[dict[str, Any]]]
"""The drift of each column between two Parquet files (reference, current): {name, effect, threshold, drifted}."""


@dataclass(frozen=True)
class Champion:
    """The champion of one model, fetched: its number, evaluation, files, and the window it was evaluated on."""

    version: int
    evaluation: dict[str, Any]
    files: Path
    reference: Path | None


@dataclass
class Context:
    """One run of the checks. `rehearsals` fills as pipelines are run; later checks read it."""

    folder: Path
    project: Project
    scratch: Path
    sample: float
    champions: dict[str, Champion] = field(default_factory=dict[str, Champion])
    champions_known: bool = False
    """Whether a yard was asked for its champions; without one nothing is claimed about them."""
    gates: bool = False
    drift: DriftTest | None = None
    rehearsals: dict[str, Rehearsal] = field(default_factory=dict[str, Rehearsal])

    def python_files(self) -> list[Path]:
        """The project's own Python files, relative to its folder."""
        return [path for path in self.files() if path.suffix == ".py"]

    def files(self) -> list[Path]:
        """Every file of the project, relative to its folder, without hidden, built and installed ones."""
        found: list[Path] = []
        pending = [self.folder]
        while pending:
            for path in sorted(pending.pop().iterdir()):
                if path.is_dir():
                    if _own(path):
                        pending.append(path)
                elif path.is_file():
                    found.append(path.relative_to(self.folder))
        return sorted(found)


def _own(folder: Path) -> bool:
    if folder.is_symlink() or folder.name in SKIPPED_FOLDERS or folder.name.startswith("."):
        return False
    return not (folder / "pyvenv.cfg").exists()
