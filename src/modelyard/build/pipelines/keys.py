"""A step's cache key, what it is made of, and what changed since the last run."""

import hashlib
import json
import os
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from modelyard.build.pipelines.cache import Cache
from modelyard.build.pipelines.fingerprint import Fingerprints
from modelyard.build.pipelines.graph import Pipeline, Step
from modelyard.build.pipelines.nodes import Node, Stored
from modelyard.build.pipelines.stubs import Stub, Used
from modelyard.domain.errors import Invalid
from modelyard.kit.hashing import digest_json

FORMAT = 1
"""Raised when what a key means changes; older results are then not found."""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Key(NamedTuple):
    """A key and its parts: the digest of the code, the identity of each input, the declared environment."""

    text: str
    code: str
    inputs: dict[str, Any]
    environment: str


class Keys:
    """Makes the keys of one run. environments: gives the digest of a declared step environment."""

    def __init__(
        self,
        fingerprints: Fingerprints,
        cache: Cache,
        environments: Callable[[str], str],
        sample: float | None = None,
    ) -> None:
        self._fingerprints, self._cache, self._environments = fingerprints, cache, environments
        self._sample = sample
        self._codes: dict[tuple[int, bool], str] = {}
        self.codes: dict[str, dict[str, str]] = {}
        """What each digest of code stands for: digest by function, constant, library."""

    def of(self, node: Node, arguments: dict[str, Any]) -> Key:
        """The key of a node whose arguments are placed. Raises Invalid for one that cannot be part of a key."""
        assert isinstance(node.step, Step), "only steps have keys"
        step: Any = node.step
        inputs = {name: self._identity(value, node.name) for name, value in arguments.items()}
        environment = self._environments(step.environment) if step.environment else ""
        if self._sample is not None and not node.parents:
            inputs["(sample)"] = repr(self._sample)
        code = self._code(step.function, not step.environment)
        return Key(digest_json([FORMAT, PYTHON, code, inputs, environment]), code, inputs, environment)

    def _code(self, function: Any, libraries: bool = True) -> str:
        """libraries: False leaves out the runner's versions; the digest of a declared environment covers its own."""
        known = id(function), libraries
        if known not in self._codes:
            parts = self._fingerprints.of(function)
            if not libraries:
                parts = {label: part for label, part in parts.items() if not label.startswith("library ")}
            digest = digest_json(parts)[:32]
            self.codes[digest] = parts
            self._codes[known] = digest
        return self._codes[known]

    def _identity(self, value: Any, name: str) -> Any:
        """The part of a key that an argument makes."""
        if isinstance(value, Stored):
            return {"output": value.digest, "format": value.format}
        if value is None or isinstance(value, str | int | float | bool):
            return repr(value)
        if isinstance(value, dict):
            return {str(key): self._identity(item, name) for key, item in value.items()}
        if isinstance(value, list):
            return [self._identity(item, name) for item in value]
        if isinstance(value, tuple):
            return {"tuple": [self._identity(item, name) for item in value]}
        if isinstance(value, bytes):
            return {"bytes": hashlib.sha256(value).hexdigest()}
        if isinstance(value, Step | Pipeline | types.FunctionType | type):
            return {"code": self._code(getattr(value, "function", value))}
        if isinstance(value, PurePath):
            return {"path": str(value)}
        if isinstance(value, Stub):
            raise Used
        try:
            return self._identity(self._cache.save(value), name)
        except Invalid as error:
            raise Invalid(
                f"Step {name!r} is given a {type(value).__name__}, which cannot be part of a cache key.",
                remedy="Pass text, numbers, lists, frames or another step's output.",
            ) from error


class Last:
    """What each step of a pipeline was made of when it last ran here, so that a change can be named."""

    def __init__(self, folder: Path, pipeline: str) -> None:
        self._file = folder / f"{pipeline}.json"
        try:
            self._held: dict[str, Any] = json.loads(self._file.read_bytes())
        except (FileNotFoundError, ValueError):
            self._held = {"codes": {}, "steps": {}}

    def state(self, name: str) -> dict[str, Any] | None:
        """{at, state, reason, ...} of a step's last run."""
        return self._held["steps"].get(name)

    def reason(self, name: str, key: Key, codes: dict[str, dict[str, str]]) -> str:
        """Why the step's key is not the one of last time."""
        before = self._held["steps"].get(name)
        if before is None:
            return "it never ran here"
        if before["key"] == key.text:
            return "nothing changed, and its result is not in the cache"
        changes = _changes(self._held["codes"].get(before["code"], {}), codes[key.code])
        for parameter in sorted({*before["inputs"], *key.inputs}):
            old, new = before["inputs"].get(parameter), key.inputs.get(parameter)
            if old != new:
                changes.append(_input_change(parameter, old, new))
        if before["environment"] != key.environment:
            changes.append("its declared environment changed")
        return "; ".join(changes) or "Python or modelyard's format changed"

    def write(self, keys: dict[str, tuple[Key, str, str]], codes: dict[str, dict[str, str]]) -> None:
        """Note (key, state, reason) of each step; others stay as they were."""
        now = int(time.time() * 1000)
        for name, (key, state, reason) in keys.items():
            held = {"key": key.text, "code": key.code, "inputs": key.inputs, "environment": key.environment}
            self._held["steps"][name] = {**held, "state": state, "reason": reason, "at": now}
        used = {step["code"] for step in self._held["steps"].values()}
        known = {**self._held["codes"], **codes}
        self._held["codes"] = {digest: parts for digest, parts in known.items() if digest in used}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        temporary.write_text(json.dumps(self._held))
        os.replace(temporary, self._file)


def _changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    found = [f"{label} changed" for label in sorted(before.keys() & after.keys()) if before[label] != after[label]]
    for label in sorted(after.keys() & before.keys()):
        if label.startswith("library") and before[label] != after[label]:
            found = [text for text in found if text != f"{label} changed"]
            found.append(f"{label} changed from {before[label]} to {after[label]}")
    found += [f"{label} is new" for label in sorted(after.keys() - before.keys())]
    return found + [f"{label} is no longer used" for label in sorted(before.keys() - after.keys())]


def _input_change(name: str, before: Any, after: Any) -> str:
    if isinstance(before, str) and isinstance(after, str):
        return f"param {name} changed from {before} to {after}"
    if isinstance(before, dict) and isinstance(after, dict) and "output" in before and "output" in after:
        return f"input {name} changed (digest {before['output'][:8]} to {after['output'][:8]})"
    return f"input {name} changed"
