"""New projects from templates."""

import shutil
from pathlib import Path

from modelyard.domain.errors import AlreadyExists, NotFound

TEMPLATES = Path(__file__).parent / "templates"


def names() -> list[str]:
    return sorted(folder.name for folder in TEMPLATES.iterdir() if folder.is_dir())


def write(template: str, folder: Path) -> list[Path]:
    """The files written. Raises NotFound for an unknown template, AlreadyExists before any file is overwritten."""
    source = TEMPLATES / template
    if template not in names():
        raise NotFound(f"There is no template {template!r}.", remedy=f"Templates: {', '.join(names())}.")
    files = [file for file in sorted(source.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    taken = [file.relative_to(source) for file in files if (folder / file.relative_to(source)).exists()]
    if taken:
        raise AlreadyExists(
            f"{folder / taken[0]} exists already.", remedy="Choose another folder: modelyard init FOLDER"
        )
    written: list[Path] = []
    for file in files:
        target = folder / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        written.append(target)
    return written
