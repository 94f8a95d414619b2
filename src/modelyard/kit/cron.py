"""Moments of a cron expression on the wall clock of a time zone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError


@dataclass(frozen=True)
class Cron:
    """Five fields (or six, with seconds first), as Debian's cron reads them, also where the clock is changed.

    A time of day in the hour that spring skips comes right after it; one in the hour that autumn repeats comes once.
    """

    expression: str
    zone: ZoneInfo

    def after(self, ms: int) -> int:
        """The first moment after `ms`, in milliseconds since the epoch."""
        return next(self.moments(ms))

    def moments(self, ms: int) -> Iterator[int]:
        """Every moment after `ms`, oldest first, without end."""
        start = datetime.fromtimestamp(ms / 1000, self.zone)
        last = ms
        for found in CronSim(self.expression, start):
            moment = to_ms(found)
            if moment > last:  # the repeated hour may be named twice
                last = moment
                yield moment

    def between(self, after: int, until: int, most: int) -> list[int]:
        """The newest `most` moments in (after, until], oldest first."""
        start = datetime.fromtimestamp(until / 1000, self.zone) + timedelta(seconds=1)
        found: list[int] = []
        for each in CronSim(self.expression, start, reverse=True):
            moment = to_ms(each)
            if moment <= after or len(found) == most:
                break
            if moment <= until and (not found or moment < found[-1]):
                found.append(moment)
        return found[::-1]


def parse(expression: str, zone: str) -> Cron:
    """The moments of an expression in an IANA time zone. Raises ValueError that says what is wrong."""
    try:
        place = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{zone!r} is not an IANA time zone") from error
    try:
        next(CronSim(expression, datetime.now(place)))
    except StopIteration as error:
        raise ValueError(f"{expression!r} never comes") from error
    except CronSimError as error:
        raise ValueError(f"{expression!r} is not a cron expression: {str(error).lower()}") from error
    return Cron(expression, place)


def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch of a time with a zone."""
    return int(moment.astimezone(UTC).timestamp() * 1000)
