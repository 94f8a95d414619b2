"""What the sections of modelyard.toml are made of: durations and shares."""

import re

from modelyard.domain.errors import ConfigError

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
