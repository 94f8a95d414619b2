"""What a model needs beside its file: the project's own modules, and the libraries that its parts come from."""

import shutil
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from modelyard.build.pipelines.environment import OWN
from modelyard.build.pipelines.environment import modules as modules_installed
from modelyard.build.pipelines.sources import is_installed, static_digests

USUAL = ("numpy", "pandas", "scikit-learn", "skops")


def modules_of(types: Iterable[str]) -> list[str]:
    """The loaded modules that hold these classes and functions, given by their full names."""
    found: dict[str, None] = {}
    for name in types:
        module = name.rpartition(".")[0]
        while module and module not in sys.modules:
            module = module.rpartition(".")[0]
        if module and module != "builtins":
            found[module] = None
    return list(found)


def copy_project(modules: Iterable[str], folder: Path) -> bool:
    """Copy the project's modules among these, with the project modules that they import, so that `folder` on the
    path makes them importable; whether there were any.
    """
    own = [name for name in modules if not is_installed(name, getattr(sys.modules[name], "__file__", None))]
    for name in own:
        home = Path(str(sys.modules[name].__file__)).resolve()
        root = home.parents[name.count(".") + (home.name == "__init__.py")]
        reached = [Path(file).resolve() for file in static_digests(name) or {}]
        for file in {home, *reached}:
            if not file.is_relative_to(root):
                continue
            parents = [parent / "__init__.py" for parent in file.parents if parent != root]
            inside = [each for each in parents if each.is_relative_to(root) and each.exists()]
            for each in (file, *inside):
                target = folder / each.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(each, target)
    return bool(own)


def requirements(modules: Iterable[str], own: bool) -> list[str]:
    """`name==version` of the usual libraries and of those that the modules come from."""
    tops = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)
    names = [*USUAL, OWN] if own or OWN in tops else USUAL
    lines = [f"{name}=={metadata.version(name)}" for name in names]
    more = tops - {"numpy", "pandas", "sklearn", "skops", "scipy", OWN}
    if more:
        holders = modules_installed()
        lines += sorted({holders[top].replace(" ", "==") for top in more & holders.keys()} - set(lines))
    return lines
