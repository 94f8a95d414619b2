"""Parameters of a start: the declared ones, with their placeholders filled in."""

from datetime import datetime
from re import Match
from typing import Any
from zoneinfo import ZoneInfo

from modelyard.domain.errors import Invalid
from modelyard.domain.pipelines import PLACEHOLDER


def fill(value: Any, at: int, zone: str, facts: dict[str, Any]) -> Any:
    """`value` with every placeholder in its texts filled in; facts: what else is known, by placeholder.

    at: the moment that the start belongs to, in milliseconds. Raises Invalid for a placeholder that has no value.
    """
    if isinstance(value, dict):
        return {key: fill(each, at, zone, facts) for key, each in value.items()}
    if isinstance(value, list):
        return [fill(each, at, zone, facts) for each in value]
    if not isinstance(value, str):
        return value
    moment = datetime.fromtimestamp(at / 1000, ZoneInfo(zone))
    return PLACEHOLDER.sub(lambda found: _filled(found, moment, facts), value)


def _filled(found: Match[str], moment: datetime, facts: dict[str, Any]) -> str:
    name, pattern = found["name"], found["pattern"]
    if name == "day":
        return moment.strftime(pattern or "%Y-%m-%d")
    if name == "at":
        return moment.strftime(pattern) if pattern else moment.isoformat()
    if name in facts:
        return str(facts[name])
    raise Invalid(f"{found[0]} has no value for this start.", remedy="Give the parameter when you start it.")
