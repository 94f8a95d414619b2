"""The libraries that a version runs with: the yard's, where they are what it names, or an environment of its own.

An environment is built with uv when its deployment is prepared, from a lock that is resolved once and kept, with the
digests of every package; a worker starts in it and installs nothing. Versions with the same lock share one.
"""

import hashlib
import json
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.deployments import places
from modelyard.deliver.serving.description import describe
from modelyard.domain.errors import Invalid, MissingExtra, Unavailable
from modelyard.domain.serving import Libraries
from modelyard.kit.files import atomic_write
from modelyard.kit.hashing import digest_json
from modelyard.kit.processes import programs, without_secrets
from modelyard.kit.uv import READY, WHEELS_ONLY, Uv, UvMissing, UvRefused

OURS = ("mlflow", "mlflow-skinny", "mlflow-tracing", "modelyard")
"""What the yard brings itself: the format is read without MLflow, and modelyard is linked in."""
WORKER = ("msgspec", "uvloop", "pyyaml", "numpy")
"""What the worker's own code imports."""
FAST = ("sklearn", "xgboost", "lightgbm", "onnx")
"""Flavors that are served without MLflow."""
WITHOUT_GPU = {"xgboost": "xgboost-cpu", "tensorflow": "tensorflow-cpu"}
"""The same releases of the same modules, without a GPU's libraries, under another name."""
ARRAYS = ("double", "float", "long", "integer", "tensor")
OLDEST = (3, 11)
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


class Chosen(msgspec.Struct, frozen=True):
    """`python` is the interpreter of the version's own environment, None for the yard's; `why` what differs."""

    python: str | None = None
    lock: str = ""
    why: list[str] = []

    def __str__(self) -> str:
        return f"it runs in an environment of its own, lock {self.lock} ({'; '.join(self.why)})"


class Needs(msgspec.Struct, frozen=True):
    """What a model's folder says of its libraries. fast: served without MLflow; arrays: and without pandas."""

    python: str
    requirements: list[str]
    fast: bool
    arrays: bool

    @property
    def resolved(self) -> list[str]:
        """What an environment of its own is resolved from."""
        extra = WORKER if self.arrays else (*WORKER, "pandas")
        mlflow = [] if self.fast else ["mlflow-skinny"]
        return [*self.requirements, *_declared(extra), *mlflow]


def chosen(home: Path, environment: str, digest: str) -> Chosen | None:
    """What a prepared version runs with; None while it is not prepared."""
    try:
        found = msgspec.json.decode(_note(home, environment, digest).read_bytes(), type=Chosen)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return found if found.python is None or Path(found.python).exists() else None


def differences(folder: Path, wanted: Libraries) -> tuple[Needs, list[str]]:
    """(what a model's folder needs, in what the yard's libraries are something else). Raises Invalid."""
    needs = _needs(folder)
    if wanted == "shared":
        return needs, []
    return needs, _differing(needs) or (["as declared"] if wanted == "own" else [])


def prepare(home: Path, environment: str, digest: str, needs: Needs, why: list[str]) -> None:
    """Build what the version runs with, unless it is there, and note it.

    Raises Invalid, MissingExtra, Unavailable.
    """
    found = built(home, needs, why) if why else Chosen()
    atomic_write(_note(home, environment, digest), msgspec.json.encode(found))


def _note(home: Path, environment: str, digest: str) -> Path:
    return places.models(home, environment) / f"{digest}.libraries.json"


def built(home: Path, needs: Needs, why: list[str], extra: tuple[str, ...] = ()) -> Chosen:
    """An environment of its own, made unless it is there. extra: what else of modelyard's requirements it has.

    Raises Invalid, MissingExtra, Unavailable.
    """
    needs = msgspec.structs.replace(needs, requirements=[*needs.requirements, *_declared(extra)])
    folder = home / "environments"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"model-{digest_json([needs.python, needs.resolved])[:16]}.lock.txt"
    uv = Uv(folder, WHEELS_ONLY, without_secrets())
    try:
        if not file.exists():
            atomic_write(file, uv.resolve(needs.resolved, needs.python, hashes=True).encode())
        lock = file.read_text()
        name = hashlib.sha256(f"{needs.python}\n{lock}".encode()).hexdigest()[:16]
        linked = {"modelyard": Path(__file__).parents[2]}
        return Chosen(uv.build(folder / f"model-{name}", needs.python, lock, linked), name, why)
    except UvMissing as error:
        raise MissingExtra("uv", "environments", f"A version with other libraries ({why[0]})") from error
    except UvRefused as error:
        kind = Invalid if error.unsolvable else Unavailable
        raise kind(
            f"Its environment ({'; '.join(why)}) cannot be built: {error}",
            remedy='Correct the cause and deploy again, or declare libraries = "shared" for the model.',
        ) from error


def _needs(folder: Path) -> Needs:
    """Raises Invalid for requirements that name no package of an index."""
    described = describe(folder)
    flavors: dict[str, Any] = described.get("flavors") or {}
    python = str((flavors.get("python_function") or {}).get("python_version") or HERE)
    file = folder / "requirements.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    texts = [text for line in lines if (text := re.sub(r"(^|\s)#.*", "", line).strip())]
    kept = [text for text in texts if _name(text) not in OURS]
    fast = any(name in flavors for name in FAST)
    columns: list[dict[str, Any]] = json.loads((described.get("signature") or {}).get("inputs") or "[]")
    arrays = fast and all(column.get("type") in ARRAYS for column in columns)
    return Needs(".".join(python.split(".")[:2]), kept, fast, arrays)


def _name(text: str) -> str:
    return _canonical(re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0])


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _differing(needs: Needs) -> list[str]:
    """Sentences such as `scikit-learn==1.7.2, here 1.9.1`."""
    from packaging.requirements import InvalidRequirement, Requirement  # late: comes with the serve extra

    found: list[str] = []
    if needs.python != HERE:
        if tuple(int(part) for part in needs.python.split(".")) < OLDEST:
            raise Invalid(
                f"The model was logged with Python {needs.python}; a worker needs 3.11 or later.",
                remedy='Log it with a newer Python, or declare libraries = "shared" for the model.',
            )
        found.append(f"Python {needs.python}, here {HERE}")
    for text in needs.requirements:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            wanted = None
        if wanted is None or wanted.url:
            raise Invalid(
                f"The model's requirements name no package of an index: {text[:100]!r}.",
                remedy="Log it with package==version alone; where packages come from is said to uv (UV_INDEX).",
            )
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        version = _installed(wanted.name) or _installed(WITHOUT_GPU.get(wanted.name, ""))
        if version is None:
            found.append(f"{text}, here none")
        elif not wanted.specifier.contains(version, prereleases=True):
            found.append(f"{text}, here {version}")
    return found


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name) if name else None
    except metadata.PackageNotFoundError:
        return None


def _declared(names: tuple[str, ...]) -> list[str]:
    """What modelyard itself asks of these packages, whatever extra they belong to."""
    found = {_name(text): text.partition(";")[0].strip() for text in metadata.requires("modelyard") or []}
    return [found.get(name, name) for name in names]


def remove_unused(home: Path, environments: list[str], before_ms: int) -> int:
    """How many of the versions' environments were removed: those built before, in which no wanted worker runs.

    A version that comes back has its environment built again.
    """
    used = {python for environment in environments for python in _used(places.serving(home, environment))}
    used |= programs()  # a `serve` or `predict` that runs now
    gone = [
        ready.parent
        for ready in (home / "environments").glob(f"model-*/{READY}")
        if ready.stat().st_mtime * 1000 < before_ms and not any(Path(p).is_relative_to(ready.parent) for p in used)
    ]
    for folder in gone:
        (folder / READY).unlink()  # first, so that half of one is not taken for a whole
        shutil.rmtree(folder)
    return len(gone)


def _used(serving: Path) -> set[str]:
    """The interpreters of the workers that are wanted, the warm ones too."""
    try:
        workers = msgspec.json.decode((serving / "desired.json").read_bytes())["workers"]
    except FileNotFoundError:
        return set()
    return {worker["python"] for worker in workers if worker.get("python")}
