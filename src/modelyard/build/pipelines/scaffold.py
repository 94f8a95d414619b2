"""New projects from templates."""

from collections.abc import Mapping
from pathlib import Path

from modelyard.domain.errors import AlreadyExists, NotFound
from modelyard.kit.files import atomic_write

TEMPLATES = Path(__file__).parent / "templates"


def names() -> list[str]:
    return sorted(folder.name for folder in TEMPLATES.iterdir() if folder.is_dir())


def write(
    template: str, folder: Path, fill: Mapping[str, str] | None = None, more: Mapping[str, bytes] | None = None
) -> list[Path]:
    """The files written: the template's, in whose texts each key of `fill` is replaced by its value, and `more`.

    Raises NotFound for an unknown template, AlreadyExists before any file is overwritten.
    """
    source = TEMPLATES / template
    if template not in names():
        raise NotFound(f"There is no template {template!r}.", remedy=f"Templates: {', '.join(names())}.")
    files = [file for file in sorted(source.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    held = {str(file.relative_to(source)): _filled(file, fill or {}) for file in files} | dict(more or {})
    taken = [name for name in held if (folder / name).exists()]
    if taken:
        raise AlreadyExists(
            f"{folder / taken[0]} exists already.", remedy="Choose another folder: modelyard init FOLDER"
        )
    for name, data in held.items():
        atomic_write(folder / name, data, durable=False)
    return [folder / name for name in held]


def _filled(file: Path, fill: Mapping[str, str]) -> bytes:
    text = file.read_text()
    for key, value in fill.items():
        text = text.replace(key, value)
    return text.encode()
