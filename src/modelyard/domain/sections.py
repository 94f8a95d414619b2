"""What the sections of TOML files are made of: durations and shares; and what is said of a key that does not fit."""

import difflib
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from modelyard.domain.errors import ConfigError

Sections = Mapping[str, type[msgspec.Struct]]
"""What stands where in a file: {path with `*` for names that the user gives: its type}."""

DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
STEP = re.compile(r"^(\d+(?:\.\d+)?)%$")


def seconds(text: str) -> float:
    """Seconds of a duration such as `500ms`, `30s`, `10m`, `1h`, `7d`. Raises ConfigError otherwise."""
    found = DURATION.match(text.strip())
    if not found:
        raise ConfigError(
            f"{text!r} is not a duration.", remedy="Write a number and ms, s, m, h or d, such as '10m'."
        )
    return float(found[1]) * SECONDS[found[2]]


def share(text: str) -> float:
    """The share that a rollout step such as `5%` names, in 0..1. Raises ConfigError otherwise."""
    found = STEP.match(text.strip())
    value = float(found[1]) / 100 if found else -1.0
    if not 0 < value <= 1:
        raise ConfigError(
            f"{text!r} is not a share of traffic.",
            remedy="Write more than 0% and at most 100%, such as '5%'.",
        )
    return value


def explain(error: msgspec.ValidationError, raw: dict[str, Any], file: str, sections: Sections) -> ConfigError:
    """The same error for people: it names the file, the key, what was found and what is allowed."""
    text = str(error)
    unknown = re.search(r"unknown field `([^`]+)`", text)
    if unknown:
        for path, section, keys in _unknown_keys(raw, sections):
            if unknown[1] in keys:
                allowed = sorted(section.__struct_fields__)
                close = difflib.get_close_matches(unknown[1], allowed, n=1)
                hint = f"Did you mean {close[0]!r}? " if close else ""
                key = ".".join([*path, unknown[1]])
                return ConfigError(
                    f"{file}: unknown key {key!r}.", remedy=f"{hint}Allowed here: {', '.join(allowed)}."
                )
    message, _, at = text.partition(" - at ")
    key = (at.strip("`").removeprefix("$.") or "the file").replace("[...]", ".*")
    choices = _choices(key.split("."), sections) if "enum value" in message else ()
    remedy = f"Give one of: {', '.join(choices)}." if choices else "Correct that key."
    return ConfigError(f"{file}: {key}: {message}.", remedy=remedy)


def _choices(key: list[str], sections: Sections) -> tuple[str, ...]:
    """What a key takes that takes one of several words; empty where that is not known."""
    *path, name = key
    for pattern, section in sections.items():
        if pattern.split(".")[len(pattern.split(".")) - len(path) :] == path and name in section.__struct_fields__:
            hint = get_type_hints(section)[name]
            return get_args(hint) if get_origin(hint) is Literal else ()
    return ()


def _section_at(path: tuple[str, ...], sections: Sections) -> type[msgspec.Struct] | None:
    for pattern, section in sections.items():
        parts = pattern.split(".") if pattern else []
        if len(parts) == len(path) and all(part in ("*", name) for part, name in zip(parts, path, strict=True)):
            return section
    return None


def _unknown_keys(
    raw: dict[str, Any], sections: Sections, path: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], type[msgspec.Struct], set[str]]]:
    found: list[tuple[tuple[str, ...], type[msgspec.Struct], set[str]]] = []
    section = _section_at(path, sections)
    if section is not None:
        found.append((path, section, set(raw) - set(section.__struct_fields__)))
    for key, value in raw.items():
        if isinstance(value, dict):
            found += _unknown_keys(value, sections, (*path, key))
    return found


def check_seconds(where: str, text: str) -> None:
    """Raise ConfigError that names the key unless `text` is a duration."""
    try:
        seconds(text)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", remedy=error.remedy) from error
