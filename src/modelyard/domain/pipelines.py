"""What a project declares of a pipeline that the server starts: by the clock, by an event, by new data."""

import re
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from modelyard.domain.errors import ConfigError
from modelyard.domain.sections import check_seconds

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$")
REFERENCE = re.compile(r"^[^:]+\.py:\w+$")
PLACEHOLDER = re.compile(r"\{(?P<name>[A-Za-z_][\w.]*)(?::(?P<pattern>[^{}]*))?\}")
KNOWN = ("day", "at", "file", "files")
MOST_MADE_UP = 1000


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Schedule(_Section, frozen=True):
    """When it starts by the clock. misfire: what is made up for after nobody was there to start it in time.

    grace: how late a start may be without being a misfire. most: how many of the newest misfires `all` makes up for.
    """

    cron: str
    zone: str = "UTC"
    misfire: Literal["skip", "once", "all"] = "once"
    most: int = 10
    grace: str = "1m"


class OnEvent(_Section, frozen=True):
    """type: of the catalogue. where: what fields of the event's data (or subject, actor) must be; text may hold *."""

    type: str
    where: dict[str, Any] = {}


class OnData(_Section, frozen=True):
    """path: a file, pattern, folder, or s3://bucket/prefix. settle: how long a file must not have changed.

    each: one start for each new file, instead of one for all that came since the last look.
    """

    path: str
    every: str = "1m"
    settle: str = "5s"
    each: bool = False


class Pipeline(_Section, frozen=True):
    """A pipeline that the server starts. limit: how many run at once; when_busy: what becomes of a further one."""

    pipeline: str
    params: dict[str, Any] = {}
    limit: int = 1
    when_busy: Literal["queue", "skip", "cancel"] = "queue"
    schedule: Schedule | None = None
    on_event: OnEvent | None = None
    on_data: OnData | None = None

    @property
    def zone(self) -> str:
        return self.schedule.zone if self.schedule else "UTC"

    @property
    def started_by(self) -> list[str]:
        """In words, what starts it by itself; empty when it is started by hand only."""
        words: list[str] = []
        if self.schedule:
            words.append(f"{self.schedule.cron} {self.schedule.zone}")
        if self.on_event:
            where = ", ".join(f"{key}={value}" for key, value in self.on_event.where.items())
            words.append(f"on {self.on_event.type}" + (f" ({where})" if where else ""))
        if self.on_data:
            words.append(f"new data at {self.on_data.path}")
        return words


def check(where: str, name: str, declared: Pipeline) -> None:
    """Raise ConfigError for a value that its type allows and its meaning does not."""
    if not NAME.match(name):
        raise ConfigError(f"{where} is no name.", remedy="Use letters, digits and . _ - (at most 60).")
    if not REFERENCE.match(declared.pipeline):
        raise ConfigError(
            f"{where}.pipeline is {declared.pipeline!r}.", remedy="Write such as pipeline = 'pipeline.py:train'."
        )
    _least(f"{where}.limit", declared.limit)
    for used in placeholders(declared.params):
        if used not in KNOWN and not used.startswith("event."):
            raise ConfigError(
                f"{where}.params: {{{used}}} is not known.",
                remedy=f"Known: {', '.join(f'{{{known}}}' for known in KNOWN)} and {{event.NAME}}.",
            )
    if declared.schedule is not None:
        _check_schedule(f"{where}.schedule", declared.schedule)
    if declared.on_data is not None:
        check_seconds(f"{where}.on_data.every", declared.on_data.every)
        check_seconds(f"{where}.on_data.settle", declared.on_data.settle)


def placeholders(value: Any) -> Iterator[str]:
    """The names of the placeholders in every text of a value."""
    if isinstance(value, str):
        yield from (found["name"] for found in PLACEHOLDER.finditer(value))
    elif isinstance(value, dict):
        for each in value.values():
            yield from placeholders(each)
    elif isinstance(value, list):
        for each in value:
            yield from placeholders(each)


def _check_schedule(where: str, schedule: Schedule) -> None:
    from modelyard.kit.cron import parse  # late: most projects have no schedule, and commands read the project

    try:
        parse(schedule.cron, schedule.zone)
    except ValueError as error:
        raise ConfigError(
            f"{where}: {error}.", remedy="Write such as cron = '30 2 * * *' and zone = 'Europe/Berlin'."
        ) from error
    check_seconds(f"{where}.grace", schedule.grace)
    _least(f"{where}.most", schedule.most)
    if schedule.most > MOST_MADE_UP:
        raise ConfigError(f"{where}.most is {schedule.most}.", remedy=f"At most {MOST_MADE_UP}; backfill the others.")


def _least(where: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{where} is {value}.", remedy="Give 1 or more.")
