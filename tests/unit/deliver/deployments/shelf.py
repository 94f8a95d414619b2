"""Models with libraries of their own, and a shelf of wheels that these come from."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import yaml

GREET = '''
class Greet:
    """Answers the version of the library that it runs with."""

    def predict(self, rows):
        import greeter

        return [greeter.VERSION] * len(rows)
'''


def wheel(shelf: Path, name: str, version: str, files: dict[str, bytes], tag: str, more: list[str]) -> None:
    """Put a wheel onto a shelf. more: lines of its metadata."""
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *more]
    files = files | {
        f"{info}/METADATA": "\n".join(metadata).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    rows = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,\n"]).encode()
    with ZipFile(shelf / f"{name}-{version}-{tag}.whl", "w", ZIP_STORED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def repacked(shelf: Path, name: str) -> None:
    """A wheel of an installed distribution, so that no index is asked."""
    found = distribution(name)
    tag = str(found.read_text("WHEEL")).partition("Tag: ")[2].splitlines()[0]
    files = {
        str(file): Path(str(file.locate())).read_bytes()
        for file in found.files or []
        if not str(file).startswith("..") and ".dist-info" not in str(file) and "__pycache__" not in str(file)
        if "/tests/" not in str(file)
    }
    lines = str(found.read_text("METADATA")).partition("\n\n")[0].splitlines()
    more = [line for line in lines if line.startswith(("Requires-Dist:", "Provides-Extra:"))]
    wheel(shelf, found.name.replace("-", "_"), found.version, files, tag, more)


def greeting(folder: Path, requirements: str, python: str | None = None) -> None:
    """Make an MLflow folder one of a Greet."""
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "greet.py").write_text(GREET)
    (folder / "model.pkl").write_bytes(b"cgreet\nGreet\n)\x81.")  # its class by name, made without arguments
    (folder / "requirements.txt").write_text(requirements)
    flavors: dict[str, Any] = {
        "python_function": {"code": "code", "loader_module": "mlflow.sklearn", "model_path": "model.pkl"},
        "sklearn": {"pickled_model": "model.pkl", "serialization_format": "pickle", "code": "code"},
    }
    if python:
        flavors["python_function"]["python_version"] = python
    inputs = json.dumps([{"name": "x", "type": "double", "required": True}])
    signature = {"inputs": inputs, "outputs": None, "params": None}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, "signature": signature}))


def own(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """A modelyard command in a folder that is no project's."""
    cached = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "modelyard", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=cached, stdout=pipe, stderr=subprocess.STDOUT, text=True)
