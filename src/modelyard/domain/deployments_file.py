"""`deployments.toml`: which versions serve where, how they get there, on how many workers; kept in Git."""

import tomllib
from typing import Any, NoReturn

import msgspec

from modelyard.domain import environments, serving
from modelyard.domain.environments import AbortIf, Environment, Prometheus, RolloutPolicy
from modelyard.domain.errors import ConfigError
from modelyard.domain.project import Model
from modelyard.domain.sections import explain
from modelyard.domain.serving import Hosting, Scale, Serving


class Declared(Hosting, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One endpoint: a version or alias, or whichever was approved; its own rollout and bounds, or its environment's;
    its own workers by load, or its model's; where they run and what each takes.
    """

    version: int | str | None = None
    rollout: RolloutPolicy | None = None
    abort_if: AbortIf | None = None
    scale: Scale | None = None

    @property
    def hosting(self) -> Hosting | None:
        """None where nothing is said of it."""
        said = Hosting(**{name: getattr(self, name) for name in Hosting.__struct_fields__})
        return None if said == Hosting() else said


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "*.*": Declared,
    "*.*.rollout": RolloutPolicy,
    "*.*.abort_if": AbortIf,
    "*.*.abort_if.prometheus": Prometheus,
    "*.*.scale": Scale,
}
_TAKEN = frozenset(Declared.__struct_fields__)
_BELOW = {"rollout": RolloutPolicy, "abort_if": AbortIf, "scale": Scale}


def parse(text: str, file: str) -> dict[tuple[str, str], Declared]:
    """{(environment, endpoint): what is declared}. Raises ConfigError that names file, key, what it got and takes."""
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}.", remedy="Mend the line it names.") from error
    found: dict[tuple[str, str], Declared] = {}
    for environment, endpoints in raw.items():
        if environment in ("project", "models", "environments"):
            raise ConfigError(f"{file}: [{environment}] belongs in modelyard.toml.", remedy="Move it there.")
        if not isinstance(endpoints, dict):
            raise ConfigError(f"{file}: {environment} is {endpoints!r}, no table.", remedy=_example(environment))
        for name, held in endpoints.items():
            if name in Environment.__struct_fields__ and not (isinstance(held, dict) and held.keys() & _TAKEN):
                _move(f"{file}: {environment}.{name}", f"environments.{environment}", name)
            if not isinstance(held, dict):
                raise ConfigError(
                    f"{file}: {environment}.{name} is {held!r}, no table.", remedy=_example(environment)
                )
            _check_keys(f"{file}: {environment}.{name}", environment, name, held)
            found[environment, name] = _declared(f"{file}: {environment}.{name}", held, raw, file)
    return found


def _check_keys(where: str, environment: str, name: str, held: dict[str, Any]) -> None:
    """Raise ConfigError for a key that has its place elsewhere, here or in modelyard.toml."""
    tables = {f"environments.{environment}": Environment, f"models.{name}.serving": Serving, f"models.{name}": Model}
    for key in (key for key in held if key not in _TAKEN):
        for table, section in _BELOW.items():
            if key in section.__struct_fields__:
                raise ConfigError(f"{where}.{key} is a key of {table}.", remedy=f"Write {table} = {{ {key} = ... }}.")
        for table, section in tables.items():
            if key in section.__struct_fields__:
                _move(f"{where}.{key}", table, key)


def _move(where: str, table: str, key: str) -> NoReturn:
    raise ConfigError(f"{where} belongs in modelyard.toml.", remedy=f"Move it there: [{table}], key {key}.")


def _declared(where: str, held: dict[str, Any], raw: dict[str, Any], file: str) -> Declared:
    try:
        declared = msgspec.convert(held, Declared)
    except msgspec.ValidationError as error:
        told = explain(error, raw, file, SECTIONS)
        if "unknown key" in told.message:
            raise told from error
        key = told.message.removeprefix(f"{file}: ")
        raise ConfigError(f"{where}.{key}", remedy=told.remedy) from error
    if declared == Declared():
        raise ConfigError(
            f"{where} declares nothing.", remedy="Give a version, a rollout, bounds, a scale or a target."
        )
    if declared.version == "" or isinstance(held.get("version"), bool):
        raise ConfigError(f"{where}.version is {held['version']!r}.", remedy="Give a number or an alias.")
    if declared.rollout is not None:
        environments.check_rollout(f"{where}.rollout", declared.rollout)
    if declared.abort_if is not None:
        _check_bounds(f"{where}.abort_if", declared.abort_if, declared.rollout)
    if declared.scale is not None:
        serving.check_scale(f"{where}.scale", declared.scale)
    serving.check_hosting(where, declared, declared.scale)
    return declared


def _check_bounds(where: str, bounds: AbortIf, policy: RolloutPolicy | None) -> None:
    if bounds == AbortIf():
        raise ConfigError(f"{where} has no bound.", remedy="Give one, such as error_rate = 0.01, or leave it out.")
    environments.check_bounds(where, bounds)
    if policy is not None:
        environments.check_reward(where, bounds, policy)


def _example(environment: str) -> str:
    return f"Write [{environment}] and below it flight-delay = {{ version = 3 }}."
