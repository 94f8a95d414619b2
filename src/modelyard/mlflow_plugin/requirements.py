"""The pip requirements of a model, inferred by MLflow once for each environment and kind of model, then remembered.

MLflow finds them by loading the model in a new process, 10 to 15 s for the smallest. What that process finds depends
on the environment, the flavor, the packages that the model's pickles name, and whether an example is predicted. With
the same of these the answer is the same, so it is kept in a file; for any other flavor MLflow is asked each time.
"""

import pickletools
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from modelyard.kit.files import atomic_write
from modelyard.kit.hashing import digest_json
from modelyard.mlflow_plugin.environment import environment_digest

FLAVORS = frozenset({"sklearn", "xgboost", "lightgbm", "statsmodels", "catboost"})
PICKLES = (".pkl", ".pickle", ".joblib", ".cloudpickle")
SKOPS = ".skops"
MOST_PICKLE = 256 << 20
_REMEMBERED = "_modelyard_remembers"


def install() -> None:
    """Put the memory before MLflow's own inference, for every flavor; a second call does nothing."""
    import mlflow.models  # late: a heavy library, and this module is loaded while it starts

    asked: Any = mlflow.models.infer_pip_requirements
    if not hasattr(asked, _REMEMBERED):
        mlflow.models.infer_pip_requirements = remembering(asked)


def install_if_models() -> None:
    """As `install` where the client works with models at all; where it does not, nothing is loaded."""
    if "mlflow.models" in sys.modules:
        install()


def remembering(infer: Callable[..., list[str]], folder: Path | None = None) -> Callable[..., list[str]]:
    """`infer` with a memory in `folder` (by default of the user's cache)."""

    def inferred(model_uri: Any, flavor: str, *args: Any, **options: Any) -> list[str]:
        key = model_key(Path(str(model_uri)), flavor, options)
        if key is None:
            return infer(model_uri, flavor, *args, **options)
        place = folder or Path.home() / ".cache" / "modelyard" / "requirements"
        file = place / f"{key}.json"
        try:
            return msgspec.json.decode(file.read_bytes(), type=list[str])
        except (OSError, msgspec.DecodeError):
            found = infer(model_uri, flavor, *args, **options)
            if found != options.get("fallback", args[0] if args else None):  # a failed inference is not remembered
                _remember(file, found)
            return found

    setattr(inferred, _REMEMBERED, True)
    return inferred


def model_key(model: Path, flavor: str, options: dict[str, Any]) -> str | None:
    """What the answer depends on, as a digest; None where it depends on more than we can see.

    `model` is the model's folder, or the file of its data inside, which some flavors hand over instead.
    """
    model = model if model.is_dir() else model.parent
    extra = {name for name, value in options.items() if value and name not in ("fallback", "timeout")}
    if flavor not in FLAVORS or extra or not (model / "MLmodel").is_file() or _in_uv_project():
        return None
    import mlflow  # late: this module is loaded while the library starts
    import yaml

    described = yaml.safe_load((model / "MLmodel").read_text())
    if "code" in str(described.get("flavors", {}).get("python_function", {}).get("code") or ""):
        return None  # files of the user's own may import anything
    packages = _packages(model)
    if packages is None:
        return None
    example = described.get("saved_input_example_info") or {}
    seen = [
        mlflow.__version__,
        flavor,
        sorted(packages),
        example.get("type"),
        sorted(p.suffix for p in model.iterdir()),
    ]
    return digest_json([environment_digest(), seen])


def _packages(model: Path) -> set[str] | None:
    """The top-level packages that the model's pickles name, without loading them; None when one cannot be read."""
    found: set[str] = set()
    for file in model.rglob("*"):
        if not file.name.endswith((*PICKLES, SKOPS)):
            continue
        if file.stat().st_size > MOST_PICKLE:
            return None
        try:
            found |= _skops_packages(file) if file.name.endswith(SKOPS) else pickled_packages(file.read_bytes())
        except (ValueError, OSError, KeyError, zipfile.BadZipFile):
            return None
    return found


def pickled_packages(data: bytes) -> set[str]:
    """The top-level packages of every global that a pickle names. Raises ValueError for what is no pickle."""
    found: set[str] = set()
    texts: list[str] = []
    for code, argument, _ in pickletools.genops(data):
        if code.name in ("GLOBAL", "INST"):
            found.add(str(argument).split(" ")[0].split(".")[0])
        elif isinstance(argument, str):
            texts.append(argument)
        elif code.name == "STACK_GLOBAL":
            found |= {text.split(".")[0] for text in texts[-2:-1]}
    # a memoized module name is not near its use: every text that looks like a dotted module counts as well
    return found | {text.split(".")[0] for text in texts if "." in text and text.replace(".", "").isidentifier()}


def _skops_packages(file: Path) -> set[str]:
    with zipfile.ZipFile(file) as archive:
        schema = archive.read("schema.json").decode()
    return {module.split(".")[0] for module in re.findall(r'"__module__": *"([^"]+)"', schema)}


def _in_uv_project() -> bool:
    here = Path.cwd()
    return (here / "uv.lock").exists() and (here / "pyproject.toml").exists()


def _remember(file: Path, found: list[str]) -> None:
    try:
        atomic_write(file, msgspec.json.encode(found), durable=False)
    except OSError:
        return  # a cache that cannot be written costs time, not correctness
